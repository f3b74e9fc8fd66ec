"""Ways to train a tiny model on real text: accumulation, adapters, logs, watching, and so on."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import pytest
import torch
from lockstep.errors import LockstepError
from lockstep.training import divergence, lora, progress
from lockstep.training.schedule import learning_rate
from safetensors.torch import load_file
from training_run import Run, refusal, same, weights

LORA = {"rank": 4, "alpha": 8, "modules": ["q_proj", "v_proj"]}


def test_accumulation_is_the_batch_in_parts(home: Path, tmp_path: Path) -> None:
    """The same sequences a step; what differs is how many run together."""
    together = Run(home, tmp_path / "together", batch=4, steps=3)
    parts = Run(home, tmp_path / "parts", batch=1, accumulate=4, steps=3)
    assert parts.result["tokens"] == together.result["tokens"]
    assert parts.losses == pytest.approx(together.losses, rel=1e-5)
    other = Run(home, tmp_path / "other", batch=1, steps=3)
    assert other.losses != pytest.approx(together.losses, rel=1e-3)
    # Where it stopped within the data, it goes on.
    Run(home, tmp_path / "again", batch=1, accumulate=4, steps=3, stop_after=1)
    Run(home, tmp_path / "again", batch=1, accumulate=4, steps=3, resume=True)
    assert same(tmp_path / "parts", tmp_path / "again")


@pytest.mark.parametrize("attention", ["segmented", "full"])
def test_recomputed_activations_change_no_number(
    home: Path, tmp_path: Path, attention: str
) -> None:
    kept = Run(home, tmp_path / "kept", steps=3, truncation=2, attention=attention)
    again = Run(
        home, tmp_path / "again", steps=3, truncation=2, attention=attention, recompute=True
    )
    assert again.losses == kept.losses and same(tmp_path / "kept", tmp_path / "again")


def test_adapters_alone_move_and_a_checkpoint_holds_them_merged(
    home: Path,
    tmp_path: Path,
) -> None:
    run = Run(home, tmp_path / "out", lora=LORA, trainable=[], steps=8, heldOut=["text.txt"])
    start = run.named("start")[0]
    assert 0 < start["trainable"] < start["parameters"] / 10
    assert run.losses[-1] < run.losses[0]
    before, after = weights(home / "start"), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    moved = {n for n in before if not torch.equal(before[n], after[n])}
    assert len(moved) == 8 and all("q_proj" in n or "v_proj" in n for n in moved)
    # What was trained is what is saved: W + BA of the kept adapters, and the last score.
    kept = load_file(tmp_path / "out" / progress.ADAPTER)
    for name in moved:
        part = name.removesuffix(".weight")
        a, b = (kept[f"{part}.lora_{x}.default.weight"] for x in "AB")
        assert torch.allclose(after[name], before[name] + 2.0 * (b @ a), atol=1e-6)
    model = lockstep.load(tmp_path / "out")
    ids = make_tiny.tokenizer().encode((home / "text.txt").read_text()).ids[:128]
    assert float(model.nll(ids).mean()) == pytest.approx(run.result["scores"]["after"], abs=1e-5)
    assert "lora" not in (tmp_path / "out" / "config.json").read_text().lower()


def test_adapters_go_on_bit_by_bit(home: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"lora": LORA, "trainable": ["*norm.weight"], "steps": 5}
    whole = Run(home, tmp_path / "whole", **options)
    Run(home, tmp_path / "parts", stop_after=2, **options)
    rest = Run(home, tmp_path / "parts", resume=True, **options)
    assert rest.losses == whole.losses[2:] and same(tmp_path / "whole", tmp_path / "parts")
    adapters = [load_file(tmp_path / n / progress.ADAPTER) for n in ("whole", "parts")]
    assert adapters[0].keys() == adapters[1].keys()
    assert all(torch.equal(adapters[0][n], adapters[1][n]) for n in adapters[0])
    assert any("norm" in n for n in adapters[0])


def test_adapters_are_refused_for_other_weights_and_unknown_modules(
    home: Path,
    tmp_path: Path,
) -> None:
    Run(home, tmp_path / "out", lora=LORA, trainable=[], stop_after=1)
    Run(home, tmp_path / "moved", steps=1)
    error = refusal(
        home, tmp_path / "out", lora=LORA, trainable=[], resume=True, model=str(tmp_path / "moved")
    )
    assert error.code == "LS_TRAIN_RESUME" and "other weights" in error.message
    error = refusal(home, tmp_path / "none", lora={**LORA, "modules": ["qkv"]}, trainable=[])
    assert error.code == "LS_TRAIN_TRAINABLE" and "'qkv'" in error.message
    error = refusal(home, tmp_path / "none", lora={"rank": 4}, trainable=[])
    assert error.code == "LS_TRAIN_SETTINGS" and "alpha" in error.message


def test_the_output_head_gets_no_adapter() -> None:
    import tiny
    from lockstep.training.settings import Lora

    module = tiny.tiny(tied=False)
    lora.attach(module, Lora(2, 4.0, ("*",)), 0)
    assert not any("lm_head" in name for name in lora.adapters(module))
    with pytest.raises(LockstepError, match="output head has none"):
        lora.attach(tiny.tiny(tied=False), Lora(2, 4.0, ("lm_head",)), 0)


def test_merging_leaves_the_module_as_it_is() -> None:
    import tiny
    from lockstep.training.settings import Lora

    module = tiny.tiny(tied=True)
    stock = {n: w.clone() for n, w in module.state_dict().items()}
    lora.attach(module, Lora(2, 4.0, ("*.mlp.*", "k_proj")), 0)
    for parameter in lora.adapters(module).values():
        torch.nn.init.normal_(parameter)
    held = {n: w.clone() for n, w in module.state_dict().items()}
    merged = lora.merged(module)
    assert merged.keys() == stock.keys()
    moved = {n for n in stock if not torch.equal(stock[n], merged[n])}
    assert moved == {n for n in stock if ".mlp." in n or "k_proj.weight" in n}
    assert all(torch.equal(w, held[n]) for n, w in module.state_dict().items())


def test_logs_hold_every_step_once(home: Path, tmp_path: Path) -> None:
    """Also those of a training that was resumed from before its last logged step."""
    folder = tmp_path / "logs"
    options: dict[str, Any] = {
        "logs": str(folder), "steps": 6, "saveEvery": 2, "saveMinutes": None,
        "validateEvery": 2, "heldOut": ["text.txt"],
    }  # fmt: skip
    whole = Run(home, tmp_path / "whole", **options)
    first = (folder / "train.jsonl").read_text()
    lines = [json.loads(line) for line in first.splitlines()]
    assert [e["step"] for e in lines if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [e["loss"] for e in lines if e["event"] == "step"] == whole.losses
    scores = [(e["when"], e["step"]) for e in lines if e["event"] == "score"]
    assert scores == [("before", 0), ("during", 2), ("during", 4), ("after", 6)]
    assert all(e["segmented"] == e["loss"] != e["full"] for e in lines if e["event"] == "score")
    assert scalars(folder)["train/loss"] == pytest.approx(dict(enumerate(whole.losses, 1)))
    assert sorted(scalars(folder)["validation/full"]) == [0, 2, 4, 6]

    class Stopped(Exception):
        pass

    # A crash after step 3: the checkpoint is the one of step 2.
    def crash(run: Run) -> None:
        if len(run.named("step")) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        Run(home, tmp_path / "parts", between=crash, **options)
    Run(home, tmp_path / "parts", resume=True, **options)
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [e["step"] for e in lines if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [e["loss"] for e in lines if e["event"] == "step"] == whole.losses
    assert same(tmp_path / "whole", tmp_path / "parts")


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard would show, read from the record framing of its event files."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_validation_says_what_both_executions_give(home: Path, tmp_path: Path) -> None:
    run = Run(home, tmp_path / "out", steps=4, validateEvery=2, heldOut=["text.txt"])
    plain = Run(home, tmp_path / "plain", steps=4)
    assert same(tmp_path / "out", tmp_path / "plain")
    rows = run.result["validations"]
    assert [row[0] for row in rows] == [0, 2, 4]
    assert plain.result["validations"] == []
    model = lockstep.load(tmp_path / "out")
    ids = make_tiny.tokenizer().encode((home / "text.txt").read_text()).ids[:128]
    assert rows[-1][1] == pytest.approx(float(model.nll(ids).mean()), abs=1e-6)
    assert rows[-1][2] == pytest.approx(float(lockstep.full.nll(model, ids).mean()), abs=1e-6)


def test_a_row_of_spikes_ends_the_training_and_is_never_saved(
    home: Path,
    tmp_path: Path,
) -> None:
    """Weights that a fault ruins after ten calm steps."""

    def ruin(run: Run) -> None:
        if len(run.named("step")) == 10:
            for parameter in run.training.train_state.parameters.values():
                parameter.data.mul_(-4.0)

    seen: list[dict[str, Any]] = []

    def look(run: Run) -> None:
        seen[:] = run.events
        ruin(run)

    options: dict[str, Any] = {"spike": 0.5, "patience": 3, "saveEvery": 1, "saveMinutes": None}
    error = refusal(home, tmp_path / "out", steps=40, between=look, **options)
    assert error.code == "LS_TRAIN_DIVERGED" and "3 steps in a row" in error.message
    assert "last good checkpoint" in error.message
    warnings = [e for e in seen if e["event"] == "warning" and e["code"] == "LS_TRAIN_SPIKE"]
    assert [e["step"] for e in warnings] == [11, 12]  # the third is the error
    assert [e["step"] for e in seen if e["event"] == "saved"] == list(range(1, 11))
    state = json.loads((tmp_path / "out" / progress.STATE).read_text())
    assert state["progress"]["step"] == 10


def test_a_stop_within_a_row_of_spikes_keeps_the_good_checkpoint(
    home: Path, tmp_path: Path
) -> None:
    def ruin(run: Run) -> None:
        if len(run.named("step")) == 10:
            for parameter in run.training.train_state.parameters.values():
                parameter.data.mul_(-4.0)

    options: dict[str, Any] = {"spike": 0.5, "patience": 9, "saveEvery": 1, "saveMinutes": None}
    out = tmp_path / "out"
    run = Run(home, out, steps=40, keep=1, between=ruin, stop_after=12, **options)
    assert run.result["stopped"] and run.named("saved")[-1]["step"] == 10
    assert json.loads((out / progress.STATE).read_text())["progress"]["step"] == 10
    assert "not saved" in run.named("warning")[-1]["message"]
    # Without any checkpoint there is nothing to keep: the work is saved.
    del options["saveEvery"]
    run = Run(home, tmp_path / "one", steps=40, between=ruin, stop_after=12, **options)
    assert [e["step"] for e in run.named("saved")] == [12]


def test_a_loss_that_climbs_slowly_is_noticed() -> None:
    seen = divergence.LossMonitor(2.0, 3)
    for n in range(400):
        assert seen.see(3.0 + 0.06 * n) is None  # never a spike
        if seen.drifted is not None:
            break
    # The median of 64 steps lags half of them behind: 2 nats at 0.06 a step are 34 more.
    assert n == divergence.WINDOW - 1 + 34 and seen.lowest == pytest.approx(3.0 + 0.06 * 31.5)
    calm = divergence.LossMonitor(2.0, 3, [3.0 + (n % 7) * 0.5 for n in range(500)])
    assert calm.drifted is None
    assert divergence.LossMonitor(0.0, 3, [0.1 * n for n in range(500)]).drifted is None


def test_drift_ends_the_training(home: Path, tmp_path: Path) -> None:
    def worsen(run: Run) -> None:
        for parameter in run.training.train_state.parameters.values():
            parameter.data.mul_(0.97)

    options: dict[str, Any] = {"saveEvery": 64, "saveMinutes": None, "learningRate": 1e-6}
    error = refusal(
        home, tmp_path / "out", steps=400, batch=1, between=worsen, spike=0.02, **options
    )
    assert error.code == "LS_TRAIN_DIVERGED"


def test_a_log_or_picture_that_cannot_be_written_ends_no_training(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    error = refusal(home, tmp_path / "none", logs=str(tmp_path / "file" / "logs"))
    assert error.code == "LS_TRAIN_LOG" and error.fix
    out = tmp_path / "out"
    run = Run(home, out, steps=2, plot=str(tmp_path / "file" / "plot.png"))
    assert run.result["step"] == 2 and run.named("saved")
    assert [e["code"] for e in run.named("warning")].count("LS_TRAIN_LOG") == 1

    # The disk of the logs fills up in the middle.
    lines: list[Any] = []

    def full(run: Run) -> None:
        if len(run.named("step")) == 1:
            lines.extend(run.training.logs[:1])
            lines[0]._file = Path("/dev/full").open("w")  # noqa: SIM115

    run = Run(home, tmp_path / "two", steps=3, logs=str(tmp_path / "logs"), between=full)
    assert run.result["step"] == 3
    [warning] = [e for e in run.named("warning") if e["code"] == "LS_TRAIN_LOG"]
    assert "the log train.jsonl cannot be written" in warning["message"]
    assert lines[0]._file.closed
    # The other one goes on.
    assert sorted(scalars(tmp_path / "logs")["train/loss"]) == [1, 2, 3]


def test_a_step_may_be_split_otherwise_on_resumption(home: Path, tmp_path: Path) -> None:
    """What LS_TRAIN_MEMORY proposes can be done."""
    whole = Run(home, tmp_path / "whole", steps=4)
    Run(home, tmp_path / "out", steps=4, stop_after=2)
    rest = Run(home, tmp_path / "out", steps=4, resume=True, batch=1, accumulate=2, recompute=True)
    assert rest.losses == pytest.approx(whole.losses[2:], rel=1e-5)
    Run(home, tmp_path / "more", steps=4, stop_after=2)
    error = refusal(home, tmp_path / "more", steps=4, resume=True, batch=1)
    assert error.code == "LS_TRAIN_RESUME" and "batch" in error.message


def test_spikes_are_measured_against_the_steps_before() -> None:
    seen = divergence.LossMonitor(2.0, 3)
    assert all(seen.see(3.0 + 0.1 * (n % 3)) is None for n in range(20))
    assert seen.see(5.0) is None and seen.row == 0
    assert seen.see(5.3) == pytest.approx(3.2) and seen.row == 1
    assert seen.see(3.0) is None and seen.row == 0
    assert [seen.see(9.0) is not None for _ in range(3)] == [True] * 3 and seen.lost
    # A resumption sees the same losses and comes to the same.
    losses = [3.0] * 10 + [9.0, 9.0]
    assert divergence.LossMonitor(2.0, 3, losses).row == 2
    assert divergence.LossMonitor(0.0, 3, losses).row == 0
    few = divergence.LossMonitor(2.0, 3)
    assert [few.see(x) for x in (1.0, 9.0, 1.0)] == [None] * 3


@pytest.mark.parametrize("share", [0.3, 0.5, 0.85])
def test_texts_of_two_kinds_are_no_spikes(share: float) -> None:
    """Answers of one token in three and prose: each kind has its own usual loss."""
    draw = random.Random(0)
    losses = [3.4 if draw.random() < share else 0.8 for _ in range(500)]
    seen, spikes = divergence.LossMonitor(2.0, 16), 0
    for loss in losses:
        spikes += seen.see(loss) is not None
        assert not seen.lost and seen.drifted is None
    # At most while the window has hardly seen the rarer kind.
    assert spikes <= 5
    # Weights that are lost are noticed all the same.
    assert [seen.see(9.0) is not None for _ in range(16)] == [True] * 16 and seen.lost


def test_rates_of_the_schedules() -> None:
    at = {s: [learning_rate(p, 1.0, 0.2, 0.1, s) for p in (0.1, 0.2, 0.6, 1.0)]
          for s in ("cosine", "linear", "constant")}  # fmt: skip
    assert at["cosine"] == pytest.approx([0.5, 1.0, 0.55, 0.1])
    assert at["linear"] == pytest.approx([0.5, 1.0, 0.55, 0.1])
    assert at["constant"] == pytest.approx([0.5, 1.0, 1.0, 1.0])
    quarter = [learning_rate(0.4, 1.0, 0.2, 0.0, s) for s in ("cosine", "linear")]
    assert quarter == pytest.approx([0.5 + math.cos(math.pi / 4) / 2, 0.75])
