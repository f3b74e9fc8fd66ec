"""SIGKILL at any moment, a failing disk, a damaged checkpoint: resumed, it comes to the same.

`bench/training/kills.py` kills at every call; here are one kill of each kind. LOCKSTEP_KILLS=all
kills the first case at every call here too.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import disk_calls, trainings
from faults.disk_calls import Fault
from faults.trainings import Case, Trainings, hashes, survive, survive_event
from lockstep.errors import LockstepError
from lockstep.training import atomic, checkpoint_rotation, loop, manifest
from lockstep.training.lock import exclusive
from training_run import SETTINGS

pytestmark = pytest.mark.skipif(
    not disk_calls.supported(), reason="watches system calls of Linux on x86-64"
)
KEEP_2 = Case("keep 2", keep=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # its threads do not survive a fork
    return trainings.home(tmp_path_factory.mktemp("kills"))


@pytest.fixture(scope="module")
def undisturbed(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, str]]:
    """Calls of a training of KEEP_2, and the SHA-256 of what it wrote."""
    made = Trainings(home, tmp_path_factory.mktemp("whole") / "run", KEEP_2, SETTINGS)
    made.clear()
    return made.run().calls, hashes(made.folder)


def of(home: Path, tmp_path: Path, case: Case = KEEP_2) -> Trainings:
    made = Trainings(home, tmp_path / "run", case, SETTINGS)
    made.clear()
    return made


def last_save(calls: list[str]) -> int:
    return max(i for i, call in enumerate(calls) if call == "mkdir .out.new/training")


def kinds(calls: list[str]) -> list[Fault]:
    """One kill before each kind of call of the last save, each of its renames, a torn write."""
    seen: set[str] = set()
    out = []
    for at in range(last_save(calls), len(calls)):
        kind = calls[at].split()[0]
        if kind not in seen or "rename" in kind:
            out.append(Fault(at))
        if kind == "write" and kind not in seen:
            out.append(Fault(at, "tear"))
        seen.add(kind)
    return out


def test_an_undisturbed_training_gives_the_same_bytes_again(
    home: Path, tmp_path: Path, undisturbed: tuple[list[str], dict[str, str]]
) -> None:
    again = of(home, tmp_path)
    again.finish()
    assert hashes(again.folder) == undisturbed[1]
    assert {"out/model.safetensors", "out/training/optimizer.safetensors"} <= undisturbed[1].keys()
    assert sorted(p.name for p in again.folder.iterdir()) == ["out", "out.step-2"]


def test_a_training_killed_at_any_stage_of_a_save_comes_to_the_same(
    home: Path, tmp_path: Path, undisturbed: tuple[list[str], dict[str, str]]
) -> None:
    calls, whole = undisturbed
    every = os.environ.get("LOCKSTEP_KILLS") == "all"
    faults = [Fault(at) for at in range(len(calls))] if every else kinds(calls)
    made = of(home, tmp_path)
    for fault in faults:
        survived = survive(made, whole, fault)
        assert survived.well, survived
    assert len(faults) >= 12


def test_a_training_killed_at_each_step_comes_to_the_same(
    home: Path, tmp_path: Path, undisturbed: tuple[list[str], dict[str, str]]
) -> None:
    made = of(home, tmp_path)
    for event in range(1 + 2 * KEEP_2.steps):  # start; each step; each checkpoint
        survived = survive_event(made, undisturbed[1], event)
        assert survived.well, survived


def test_a_resumption_killed_while_it_repairs_comes_to_the_same(
    home: Path, tmp_path: Path, undisturbed: tuple[list[str], dict[str, str]]
) -> None:
    calls, whole = undisturbed
    swap = next(i for i in range(last_save(calls), len(calls)) if calls[i].startswith("rename"))
    made = of(home, tmp_path)
    for second in (0, 1):
        survived = survive(made, whole, Fault(swap + 2), Fault(second))
        assert survived.well, survived


def test_two_renames_where_names_cannot_be_exchanged(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path, Case("no exchange", swap=False))
    calls = made.run().calls
    whole = hashes(made.folder)
    renames = [i for i in range(last_save(calls), len(calls)) if calls[i].startswith("rename ")]
    assert [calls[i] for i in renames] == ["rename out", "rename .out.new"]
    for at in renames:
        survived = survive(made, whole, Fault(at))
        assert survived.well, survived


def test_adapters_accumulation_and_validation_come_to_the_same(home: Path, tmp_path: Path) -> None:
    case = Case("lora", keep=2, steps=2, held_out=True, more=trainings.LORA)
    made = of(home, tmp_path, case)
    calls = made.run().calls
    whole = hashes(made.folder)
    assert "out/training/adapter.safetensors" in whole
    swap = next(i for i in range(last_save(calls), len(calls)) if calls[i].startswith("rename"))
    for survived in (survive(made, whole, Fault(swap)), survive_event(made, whole, 3)):
        assert survived.well, survived


def test_a_swap_that_is_not_atomic_would_be_found(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness can fail: the old checkpoint removed before the new one has its name."""

    def careless(new: Path, target: Path) -> None:
        atomic.discard(target)
        os.rename(new, target)

    monkeypatch.setattr(atomic, "_swap", careless)
    made = of(home, tmp_path, Case("careless"))
    calls = made.run().calls
    whole = hashes(made.folder)
    before, between = len(calls) - 4, len(calls) - 2
    assert calls[between] == "rename .out.new" and calls[before].startswith("unlinkat out/")
    made.clear()
    made.run(Fault(before))
    assert trainings.sound(made.folder) != []
    assert survive(made, whole, Fault(between)).lost == 2


def test_everything_is_on_disk_before_it_gets_its_name(
    undisturbed: tuple[list[str], dict[str, str]],
) -> None:
    """A kill does not show it, a power cut would: each file and folder is synced, then renamed."""
    calls = undisturbed[0]
    swap = next(i for i in range(last_save(calls), len(calls)) if calls[i].startswith("renameat2"))
    synced = {call.split()[1] for call in calls[:swap] if call.startswith("fsync")}
    names = {n.removeprefix("out/") for n in undisturbed[1] if n.startswith("out/")}
    assert {f".out.new/{n}" for n in names} | {".out.new", ".out.new/training"} <= synced
    assert calls[swap + 1] == "fsync ."


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [
        ("write", errno.ENOSPC, "LS_TRAIN_DISK"),
        ("fsync", errno.EIO, "LS_TRAIN_WRITE"),
        ("mkdir", errno.EROFS, "LS_TRAIN_WRITE"),
        ("renameat2", errno.EDQUOT, "LS_TRAIN_DISK"),
    ],
)
def test_a_save_that_the_disk_refuses_leaves_the_last_good_checkpoint(
    home: Path,
    tmp_path: Path,
    undisturbed: tuple[list[str], dict[str, str]],
    capfd: pytest.CaptureFixture[str],
    kind: str,
    number: int,
    code: str,
) -> None:
    calls, whole = undisturbed
    at = next(i for i in range(last_save(calls), len(calls)) if calls[i].split()[0] == kind)
    made = of(home, tmp_path)
    if kind == "renameat2":
        # Where names cannot be exchanged two renames follow: they must do.
        assert made.run(Fault(at, "fail", number)).code == 0
    else:
        assert made.run(Fault(at, "fail", number)).code == 1
        said = capfd.readouterr().err
        assert f"{code}" in said and "holds the last good checkpoint" in said
        assert trainings.sound(made.folder) == []
        assert not [p for p in made.folder.iterdir() if p.name.startswith(".")]
        made.finish()
        assert made.reported("start") == [0, 2]
    assert trainings.differing(made, whole) == []


def test_a_directory_that_cannot_be_written_is_refused_before_the_first_step(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LockstepError) as caught:
        prepared(home, tmp_path / "file" / "out")
    assert caught.value.code == "LS_TRAIN_WRITE" and "Not a directory" in caught.value.message


def prepared(home: Path, out: Path, case: Case = KEEP_2, **options: Any) -> list[dict[str, Any]]:
    """What a start of a training says before it loads the model."""
    events: list[dict[str, Any]] = []
    job = case.job(home, out, SETTINGS, **options)
    checkpoint_rotation.recover(
        job, lambda event, **fields: events.append({"event": event, **fields})
    )
    return events


def flip(path: Path) -> None:
    """Change one bit in the middle, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda out: flip(out / "model.safetensors"), "model.safetensors differs"),
        (lambda out: os.truncate(out / "training/optimizer.safetensors", 99), "optimizer"),
        (lambda out: (out / "training/state.json").write_text("{"), "state.json differs"),
        (lambda out: (out / "lockstep.json").unlink(), "lockstep.json is missing"),
        (lambda out: (out / "training/SHA256SUMS").unlink(), "SHA256SUMS cannot be read"),
        (lambda out: shutil.rmtree(out), None),
    ],
)
def test_a_damaged_newest_checkpoint_falls_back_to_the_last_good_one(
    home: Path,
    tmp_path: Path,
    undisturbed: tuple[list[str], dict[str, str]],
    damage: Any,
    words: str | None,
) -> None:
    made = of(home, tmp_path)
    made.finish()
    damage(made.out)
    [event] = prepared(home, made.out, resume=True)
    assert event["event"] == "fallback" and event["step"] == 2
    assert event["path"] == str(made.folder / "out.step-2")
    if words is None:
        assert event["damaged"] == [] and event["aside"] is None
    else:
        assert words in event["damaged"][0]["problems"][0]
        assert Path(event["aside"]).is_dir()
        shutil.rmtree(event["aside"])
    if words == "model.safetensors differs":
        made.finish()
        assert trainings.differing(made, undisturbed[1]) == []


def test_no_good_checkpoint_left_is_refused_with_what_is_wrong(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path)
    made.finish()
    for name in ("out", "out.step-2"):
        flip(made.folder / name / "model.safetensors")
    with pytest.raises(LockstepError) as caught:
        prepared(home, made.out, resume=True)
    assert caught.value.code == "LS_TRAIN_RESUME"
    assert f"{made.out}: model.safetensors differs" in caught.value.message
    assert "out.step-2: model.safetensors differs" in caught.value.message


def test_what_nothing_depends_on_may_be_edited(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path)
    made.finish()
    (made.out / "README.md").write_text("my model")
    (made.out / "notes.txt").write_text("mine")
    assert prepared(home, made.out, resume=True) == []
    assert manifest.damaged(made.out) == ["README.md differs from its checksum"]
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", manifest.SUMS],
        cwd=made.out,
        capture_output=True,
        text=True,
    )
    assert sums.returncode == 1 and sums.stdout.splitlines() == ["README.md: FAILED"]


def test_keep_counts_the_checkpoints_and_stays_on_resumption(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path, Case("keep 3", keep=3, steps=4))
    made.finish()
    assert [step for step, _ in checkpoint_rotation.older(made.out)] == [3, 2]
    unsaid = Case("unsaid", keep=None, steps=5)
    (made.out / "training/state.json").write_text("{")
    [event] = prepared(home, made.out, unsaid, resume=True)
    assert event["step"] == 3 and [step for step, _ in checkpoint_rotation.older(made.out)] == [2]
    shutil.rmtree(event["aside"])
    Trainings(home, made.folder, unsaid, SETTINGS).finish()
    assert [step for step, _ in checkpoint_rotation.older(made.out)] == [4, 3]
    Trainings(home, made.folder, Case("keep 1", keep=1, steps=6), SETTINGS).finish()
    assert os.listdir(made.folder) == ["out"]


def test_a_new_training_removes_what_an_earlier_one_left(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path)
    made.finish()
    (made.folder / "out.step-7").mkdir()  # not a checkpoint: not ours to touch
    with pytest.raises(LockstepError) as caught:
        prepared(home, made.out)
    assert caught.value.code == "LS_TRAIN_OUT" and "out.step-2" in caught.value.message
    assert disk_calls.plain(made.work(resume=False, overwrite=True)) == 0
    assert sorted(os.listdir(made.folder)) == ["out", "out.step-2", "out.step-7"]
    # Its older checkpoints are its own: removed are those of the earlier training.
    longer = Trainings(home, made.folder, Case("one", keep=2, steps=1), SETTINGS)
    assert disk_calls.plain(longer.work(resume=False, overwrite=True)) == 0
    assert sorted(os.listdir(made.folder)) == ["out", "out.step-7"]


def test_a_link_to_another_disk_stays_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "big" / "disk").mkdir(parents=True)
    made = of(home, tmp_path, Case("linked", steps=2))
    made.out.symlink_to(tmp_path / "big" / "disk")
    made.finish()
    assert made.out.is_symlink() and os.listdir(made.folder) == ["out"]
    assert os.listdir(tmp_path / "big") == ["disk"] and trainings.sound(tmp_path / "big") == []


def test_another_contract_is_refused_with_both_digests(home: Path, tmp_path: Path) -> None:
    made = of(home, tmp_path, Case("one", steps=1))
    made.finish()
    job = made.case.job(home, made.out, SETTINGS, resume=True, model=str(home / "other"))
    with pytest.raises(LockstepError) as caught:
        loop.Training(job, lambda *_, **__: None, lambda: False)
    message = caught.value.message
    assert caught.value.code == "LS_TRAIN_CONTRACT" and "segment.max 16 -> 20" in message
    for name in (made.out, home / "other"):
        assert digest(name) in message


def digest(directory: Path) -> str:
    return str(json.loads((directory / "lockstep.json").read_text())["digest"])


def test_one_trainer_a_checkpoint(tmp_path: Path, real_python: str) -> None:
    """A second process, named by its id; its lock ends when it is killed."""
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from lockstep.training.lock import exclusive\n"
        f"with exclusive(Path({str(out)!r})):\n print('held', flush=True); sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(trainings.ROOT / "python")}
    with subprocess.Popen(
        [real_python, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(LockstepError) as caught, exclusive(out):
            pass
        other.kill()
        other.wait()
    assert caught.value.code == "LS_TRAIN_BUSY" and str(other.pid) in caught.value.message
    with exclusive(out):
        assert os.listdir(tmp_path) == [".out.lock"]
    assert os.listdir(tmp_path) == []
