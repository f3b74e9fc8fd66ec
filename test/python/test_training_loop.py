"""Trainings of a tiny model on real text: what they compute, count and write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import pytest
import torch
from lockstep.chat.encode import Rule
from lockstep.errors import LockstepError
from lockstep.training import data, manifest
from lockstep.training.settings import read_job
from training_run import SETTINGS, Run, refusal, weights


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
