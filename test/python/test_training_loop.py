"""Trainings of a tiny model on real text: resumption, faults, budgets, checkpoints."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import pytest
import torch
from lockstep.chat.encode import Rule
from lockstep.errors import LockstepError
from lockstep.training import data, loop, manifest, progress
from lockstep.training.settings import read_job
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
import {{ defineConfig, sentences }} from 'lockstep';
export default defineConfig({{
  model: './base', out: './out', policy: sentences(), segment: {{ min: 8, max: {most} }},
  carry: {{ size: 8, sinks: 4 }}, retrieval: {{ size: 8, layers: [1, 2] }}, heads: {{ long: [1] }},
}});
"""
SETTINGS: dict[str, Any] = {
    "data": ["text.txt"],
    "heldOut": None,
    "texts": {
        "format": "auto",
        "field": "text",
        "loss": "assistant",
        "end": None,
        "long": "cut",
        "pack": None,
        "skipBroken": False,
        "cache": None,
        "workers": 0,
        "heldOutDocuments": 64,
        "recall": None,
    },
    "heldOutTokens": 128,
    "truncation": 1,
    "sequence": 96,
    "batch": 2,
    "accumulate": 1,
    "learningRate": 3e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "finalRate": 0.1,
    "weightDecay": 0.01,
    "clip": 1.0,
    "trainable": "all",
    "lora": None,
    "dpo": None,
    "precision": "float32",
    "recompute": False,
    "seed": 1,
    "steps": 6,
    "minutes": None,
    "saveMinutes": 10,
    "saveEvery": None,
    "keep": None,
    "validateEvery": None,
    "spike": 2.0,
    "patience": 16,
}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a tiny model, and two checkpoints of it that differ in segment.max."""
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("training")
    shutil.copyfile(ROOT / "LICENSE", home / "text.txt")
    make_tiny.write(home / "base")
    for name, most in (("start", 32), ("other", 40)):
        (home / "lockstep.config.ts").write_text(CONFIG.format(most=most))
        command = ["node", ROOT / "dist/cli/main.js", "attach", home / "base"]
        command += ["--config", home / "lockstep.config.ts", "--out", home / name]
        subprocess.run(command, check=True, capture_output=True)
    return home


class Run:
    """One call of the trainer; what it reported is in ``events`` and ``result``."""

    def __init__(
        self,
        home: Path,
        out: Path,
        stop_after: int | None = None,
        between: Callable[[Run], None] = lambda run: None,
        **options: Any,
    ):
        """``between`` is called before the first step and after each one."""
        self.events: list[dict[str, Any]] = []
        changed = {k: options.pop(k) for k in list(options) if k in SETTINGS}
        job: dict[str, Any] = {
            "model": str(home / "start"),
            "base": str(home / "base"),
            "out": str(out),
            "root": str(home),
            "attention": "segmented",
            "resume": False,
            "overwrite": False,
            "device": "cpu",
            "plot": None,
            "logs": None,
            "processes": 1,
            "shard": False,
            "training": {**SETTINGS, **changed},
        }

        def emit(event: str, **fields: Any) -> None:
            self.events.append({"event": event, **fields})

        def cancelled() -> bool:
            between(self)
            return stop_after is not None and len(self.named("step")) >= stop_after

        self.training = loop.Training(read_job({**job, **options}), emit, cancelled)
        self.result = self.training.run()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == name]

    @property
    def losses(self) -> list[float]:
        return [e["loss"] for e in self.named("step")]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def refusal(home: Path, out: Path, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        Run(home, out, **options)
    return caught.value


def test_a_training_lowers_the_loss_and_writes_a_checkpoint_that_opens(
    home: Path, tmp_path: Path
) -> None:
    run = Run(home, tmp_path / "out", steps=12, heldOut=["text.txt"])
    assert run.losses[-1] < run.losses[0] - 0.3
    assert run.result["stopped"] is False and run.result["step"] == 12
    before, after = (e["loss"] for e in run.named("score"))
    assert after < before and run.result["scores"] == {"before": before, "after": after}
    model = lockstep.load(tmp_path / "out")
    trained = dict(model.contract.document["trained"])
    recorded = trained.pop("weights")
    assert trained == {"steps": 12, "tokens": run.result["tokens"]} == run.result["trained"]
    sums = manifest.read(tmp_path / "out")
    assert recorded["files"] == {"model.safetensors": sums["model.safetensors"]}
    other = shutil.copytree(tmp_path / "out", tmp_path / "other")
    shutil.copyfile(home / "base" / "model.safetensors", other / "model.safetensors")
    with pytest.raises(LockstepError, match=r"as lockstep\.json records it") as caught:
        lockstep.load(other)
    assert caught.value.code == "LS_WEIGHTS_IDENTITY"
    with pytest.warns(UserWarning, match="not checked against the checksums"):
        lockstep.load(other, weights_check=False)
    assert model.contract.digest == lockstep.load(home / "start").contract.digest
    # What the last score says is what the saved model gives.
    ids = make_tiny.tokenizer().encode((home / "text.txt").read_text()).ids[:128]
    assert float(model.nll(ids).mean()) == pytest.approx(after, abs=1e-6)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"README.md", "config.json", "tokenizer.json", "chat_template.jinja"} <= names
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["SegmentedLlamaForCausalLM"]
    assert config["model_type"] == "lockstep_llama"
    card = (tmp_path / "out" / "README.md").read_text()
    assert model.contract.digest in card and "12 steps" in card and str(home) not in card
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o044


def test_the_step_is_the_exact_gradient_of_the_planned_objective(
    home: Path, tmp_path: Path
) -> None:
    """One step of plain descent is checked: the first step of AdamW moves by the sign of it."""
    Run(home, tmp_path / "out", steps=1, warmup=0.0, finalRate=1.0, weightDecay=0.0, batch=1)
    model = lockstep.load(home / "start")
    job = read_job_of(home, tmp_path)
    rule = Rule(None, ends=frozenset([0]), end=0)  # as every text of a training ends
    reading = data.ReadOptions(tmp_path / "cache", chat=rule)
    documents = data.load(("text.txt",), home, make_tiny.tokenizer(), 264, reading).documents
    assert documents[0].ids_N[-1] == 0
    sequences = data.Sequences(documents, 96, 1, None, model.contract)
    [drawn] = sequences.take(data.Cursor(), 1)
    assert drawn.boundaries == model.plan(drawn.ids) != []
    lockstep.tbptt.backward(model, [(drawn.ids, drawn.boundaries)], 1)
    after = weights(tmp_path / "out")
    checked = 0
    for name, parameter in model.module.named_parameters():
        if name not in after:
            continue
        large = parameter.grad.abs() > 1e-4
        moved = (after[name] - parameter.detach())[large]
        assert torch.allclose(moved, -3e-3 * parameter.grad[large].sign(), rtol=1e-2)
        checked += int(large.sum())
    assert checked > 1000 and job.training.truncation == 1


def read_job_of(home: Path, tmp_path: Path) -> Any:
    raw = {"model": str(home), "base": str(home), "out": str(tmp_path), "root": str(home)}
    rest = {"attention": "segmented", "resume": False, "overwrite": False, "device": "cpu"}
    more = {"plot": None, "logs": None, "processes": 1, "shard": False}
    return read_job({**raw, **rest, **more, "training": SETTINGS})


@pytest.mark.parametrize("attention", ["segmented", "full"])
def test_interrupted_and_resumed_gives_the_same_weights(
    home: Path, tmp_path: Path, attention: str
) -> None:
    whole = Run(home, tmp_path / "whole", attention=attention)
    first = Run(home, tmp_path / "parts", attention=attention, stop_after=2)
    assert first.result["stopped"] is True and first.result["step"] == 2
    second = Run(home, tmp_path / "parts", attention=attention, resume=True, stop_after=1)
    third = Run(home, tmp_path / "parts", attention=attention, resume=True)
    assert first.losses + second.losses + third.losses == whole.losses
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert third.result["tokens"] == whole.result["tokens"]
    assert not list(tmp_path.glob(".*"))


def test_a_finished_training_resumed_does_nothing(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", steps=2)
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    again = Run(home, tmp_path / "out", steps=2, resume=True)
    assert again.losses == [] and again.result["stopped"] is False
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_what_a_model_saw_before_counts_where_the_contract_is_the_same(
    home: Path, tmp_path: Path
) -> None:
    first = Run(home, tmp_path / "one", steps=2)
    second = Run(
        home, tmp_path / "two", steps=3, model=str(tmp_path / "one"), base=str(tmp_path / "one")
    )
    trained = lockstep.load(tmp_path / "two").contract.document["trained"]
    assert trained["steps"] == 5
    assert trained["tokens"] == first.result["tokens"] + second.result["tokens"]


def test_another_contract_is_refused_with_the_fields_that_differ(
    home: Path, tmp_path: Path
) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    error = refusal(home, tmp_path / "out", resume=True, model=str(home / "other"))
    assert error.code == "LS_TRAIN_CONTRACT"
    assert "segment.max 32 -> 40" in error.message and "policy" not in error.message


def test_other_settings_are_refused_but_not_a_longer_budget(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    error = refusal(home, tmp_path / "out", resume=True, learningRate=1.0, batch=1)
    assert error.code == "LS_TRAIN_RESUME"
    assert "batch: 2 -> 1; learningRate: 0.003 -> 1.0" in error.message
    assert Run(home, tmp_path / "out", resume=True, steps=7).result["step"] == 7


def test_nothing_to_resume_and_nothing_to_overwrite(home: Path, tmp_path: Path) -> None:
    assert refusal(home, tmp_path / "none", resume=True).code == "LS_TRAIN_RESUME"
    Run(home, tmp_path / "out", steps=1)
    assert refusal(home, tmp_path / "out", steps=1).code == "LS_TRAIN_OUT"
    assert Run(home, tmp_path / "out", steps=1, overwrite=True).result["step"] == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    assert refusal(home, tmp_path / "mine", overwrite=True).code == "LS_TRAIN_OUT"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_a_damaged_optimizer_file_is_named(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    (tmp_path / "out" / progress.OPTIMIZER).write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    error = refusal(home, tmp_path / "out", resume=True)
    assert error.code == "LS_TRAIN_RESUME" and "optimizer" in error.message


def test_nan_stops_and_the_last_good_checkpoint_stays(home: Path, tmp_path: Path) -> None:
    """A real one: a learning rate that throws the weights out of float32's range."""
    Run(home, tmp_path / "out", stop_after=1, learningRate=1e30, clip=0)
    good = weights(tmp_path / "out")
    error = refusal(home, tmp_path / "out", learningRate=1e30, clip=0, resume=True)
    assert error.code == "LS_TRAIN_NAN" and "last good checkpoint" in error.message + (
        error.fix or ""
    )
    now = weights(tmp_path / "out")
    assert all(torch.equal(good[n], now[n]) for n in good)


def test_weights_that_became_infinite_in_the_last_step_are_not_saved(
    home: Path, tmp_path: Path
) -> None:
    error = refusal(home, tmp_path / "out", steps=1, learningRate=1e39, warmup=0.0, clip=0)
    assert error.code == "LS_TRAIN_NAN" and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=2)
    good = weights(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        error = refusal(home, tmp_path / "out", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.code == "LS_TRAIN_DISK"
    assert all(torch.equal(t, good[n]) for n, t in weights(tmp_path / "out").items())
    assert os.listdir(tmp_path) == ["out"]
    whole = Run(home, tmp_path / "whole")
    assert Run(home, tmp_path / "out", resume=True).losses == whole.losses[2:]


def test_a_generation_config_that_transformers_does_not_write(home: Path, tmp_path: Path) -> None:
    """A temperature without do_sample, as many published models have it."""
    given: dict[str, Any] = {}
    for name in ("base", "start"):
        file = Path(shutil.copytree(home / name, tmp_path / name)) / "generation_config.json"
        given = {**json.loads(file.read_text()), "temperature": 0.6, "top_p": 0.9}
        file.write_text(json.dumps(given))
    shutil.copy(home / "text.txt", tmp_path)
    run = Run(tmp_path, tmp_path / "out", steps=2, saveEvery=1)
    assert len(run.named("saved")) == 2
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == given
    assert run.training.train_state.module.generation_config.temperature == 0.6
    lockstep.load(tmp_path / "out")


def test_the_control_sees_the_same_tokens_and_carries_no_contract(
    home: Path, tmp_path: Path
) -> None:
    segmented = Run(home, tmp_path / "segmented", steps=3)
    control = Run(home, tmp_path / "full", steps=3, attention="full")
    assert control.result["tokens"] == segmented.result["tokens"]
    assert control.result["trained"] is None and control.losses != segmented.losses
    names = {p.name for p in (tmp_path / "full").iterdir()}
    assert not names & {"lockstep.json", "policy.js"}
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"
    assert "carries no contract" in (tmp_path / "full" / "README.md").read_text()


def test_one_segment_makes_both_trainings_the_same(home: Path, tmp_path: Path) -> None:
    """Within one segment there is nothing to carry or retrieve: segmented is full attention."""
    segmented = Run(home, tmp_path / "segmented", steps=3, sequence=8)
    control = Run(home, tmp_path / "full", steps=3, sequence=8, attention="full")
    assert segmented.losses == pytest.approx(control.losses, rel=1e-5)


def test_only_chosen_parameters_move(home: Path, tmp_path: Path) -> None:
    run = Run(home, tmp_path / "out", steps=2, trainable="attention")
    before, after = weights(home / "start"), weights(tmp_path / "out")
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert moved and all("self_attn" in n or "norm" in n for n in moved)
    start = run.named("start")[0]
    assert 0 < start["trainable"] < start["parameters"]
    error = refusal(home, tmp_path / "none", trainable=["*.no_such.*"])
    assert error.code == "LS_TRAIN_TRAINABLE" and "no_such" in error.message


def test_bfloat16_products_train_float32_weights(home: Path, tmp_path: Path) -> None:
    run = Run(home, tmp_path / "out", precision="bfloat16")
    plain = Run(home, tmp_path / "plain")
    assert run.losses != plain.losses and run.losses == pytest.approx(plain.losses, rel=0.05)
    assert {t.dtype for t in weights(tmp_path / "out").values()} == {torch.float32}


def test_minutes_are_a_budget_too(home: Path, tmp_path: Path) -> None:
    run = Run(home, tmp_path / "out", steps=None, minutes=0.01)
    assert run.result["step"] >= 1 and run.result["stopped"] is False
    assert run.named("step")[-1]["steps"] is None


def test_a_png_is_drawn(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", steps=3, plot=str(tmp_path / "plots" / "loss.png"))
    assert (tmp_path / "plots" / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": "sideways"}, "attention"),
        ({"training": {**SETTINGS, "steps": None}}, "neither"),
        ({"training": {**SETTINGS, "minutes": 1}}, "both"),
        ({"training": {k: v for k, v in SETTINGS.items() if k != "clip"}}, "clip"),
        ({"speed": 9}, "speed"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    home: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    error = refusal(home, tmp_path / "out", **changes)
    assert error.code == "LS_TRAIN_SETTINGS" and words in error.message
