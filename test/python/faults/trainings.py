"""Trainings of a tiny model that are killed and resumed, and what their checkpoints come to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import make_tiny
import torch
from faults import disk_calls
from faults.disk_calls import Ended, Fault
from lockstep.errors import LockstepError
from lockstep.training import atomic, loop, manifest, progress
from lockstep.training.settings import Job, Settings, read_job

ROOT = Path(__file__).resolve().parents[3]
CONFIG = """
import { defineConfig, fixed } from 'lockstep';
export default defineConfig({
  model: './base', out: './out', policy: fixed({ size: 8 }), segment: { min: 4, max: MAX },
  carry: { size: 4, sinks: 2 }, retrieval: { size: 4, layers: [1] }, heads: { long: [1] },
});
"""


def home(folder: Path) -> Path:
    """A text, a tiny model, and two checkpoints of it whose contracts differ in segment.max."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.txt").write_text((ROOT / "LICENSE").read_text()[:4000])
    make_tiny.write(folder / "base", layers=2, hidden=16, head_dim=4)
    for name, most in (("start", 16), ("other", 20)):
        (folder / "lockstep.config.ts").write_text(CONFIG.replace("MAX", str(most)))
        command = ["node", str(ROOT / "dist/cli/main.js"), "attach", str(folder / "base")]
        command += ["--config", str(folder / "lockstep.config.ts"), "--out", str(folder / name)]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@dataclass(frozen=True)
class Case:
    """One way to train.

    swap: whether the system can exchange two names in one step. more: further settings.
    """

    name: str
    keep: int | None = 1
    steps: int = 3
    save_every: int = 1
    attention: str = "segmented"
    swap: bool = True
    held_out: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def job(self, home: Path, out: Path, settings: dict[str, Any], **options: Any) -> Job:
        """settings: every setting of a training; what this case says replaces them."""
        training = {
            **settings,
            "sequence": 40,
            "batch": 1,
            "steps": self.steps,
            "saveEvery": self.save_every,
            "saveMinutes": None,
            "keep": self.keep,
            "heldOut": ["text.txt"] if self.held_out else None,
            "heldOutTokens": 32,
            **self.more,
        }
        raw: dict[str, Any] = {
            "model": str(home / "start"),
            "base": str(home / "base"),
            "out": str(out),
            "root": str(home),
            "attention": self.attention,
            "resume": False,
            "overwrite": False,
            "device": "cpu",
            "plot": None,
            "logs": None,
            "processes": 1,
            "shard": False,
            **options,
            "training": {f.name: training[f.name] for f in fields(Settings)},
        }
        return read_job({f.name: raw[f.name] for f in fields(Job)})


LORA: dict[str, Any] = {
    "lora": {"rank": 2, "alpha": 4.0, "modules": ["q_proj", "v_proj"]},
    "accumulate": 2,
    "recompute": True,
    "validateEvery": 1,
}


@dataclass(frozen=True)
class Trainings:
    """Runs ``case`` below ``folder``, each time in a fork of this process."""

    home: Path
    folder: Path
    case: Case
    settings: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def report(self) -> Path:
        """Where each training notes the steps that it said it had started from and saved."""
        return self.folder.with_name(f"{self.folder.name}.report")

    def work(self, die_at: int | None = None, **options: Any) -> Callable[[], None]:
        """A training from the start, or from the checkpoint at `out` where there is one.

        die_at: the process kills itself when it reports its event with this number, from 0.
        """

        def train() -> None:
            torch.set_num_threads(1)
            if not self.case.swap:
                atomic._exchange = lambda a, b: False
            seen = 0

            def emit(event: str, **fields: Any) -> None:
                nonlocal seen
                if seen == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
                if event in ("start", "saved", "fallback"):
                    with self.report.open("a") as report:
                        report.write(f"{event} {fields['step']}\n")

            resume = {"resume": True, **options}
            try:
                job = self.case.job(self.home, self.out, self.settings, **resume)
                training = loop.Training(job, emit, lambda: False)
            except LockstepError as error:
                # Killed before the first checkpoint: there is nothing to resume.
                there = (self.out / progress.STATE).exists()
                if error.code != "LS_TRAIN_RESUME" or there or options:
                    raise
                job = self.case.job(self.home, self.out, self.settings)
                training = loop.Training(job, emit, lambda: False)
            training.run()

        return train

    def run(self, fault: Fault | None = None) -> Ended:
        return disk_calls.run(self.work(), self.folder, fault)

    def finish(self) -> None:
        """Run to the end, undisturbed."""
        code = disk_calls.plain(self.work())
        if code != 0:
            raise RuntimeError(f"the training that nobody disturbed ended with {code}")

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.report.write_text("")

    def reported(self, event: str) -> list[int]:
        """Steps of the events of this name since `clear`."""
        lines = [line.split() for line in self.report.read_text().splitlines()]
        return [int(step) for name, step in lines if name == event]


@dataclass(frozen=True)
class Survived:
    """What came of a training that was stopped and resumed.

    call: before (or in the middle of) which call it was stopped, with its number. unsound: what
    was wrong with the checkpoints that a user could see at that moment. differing: files that at
    the end are not those of the undisturbed training. lost: steps that had been reported as saved
    and were done again.
    """

    call: str
    unsound: list[str]
    differing: list[str]
    lost: int

    @property
    def well(self) -> bool:
        return not self.unsound and not self.differing and self.lost == 0


def survive(trainings: Trainings, whole: dict[str, str], *faults: Fault) -> Survived:
    """Stop a training at each of ``faults`` in turn, then resume it.

    whole: `hashes` of the training that nobody disturbed.
    """
    trainings.clear()
    calls, unsound = [], []
    for fault in faults:
        ended = trainings.run(fault)
        if not ended.killed or len(ended.calls) != fault.at + 1:
            raise RuntimeError(f"expected a kill at {fault}, got {ended.status}, {ended.calls[-1]}")
        how = "in" if fault.how == "tear" else "before"
        calls.append(f"{how} {fault.at} {ended.calls[-1]}")
        unsound += sound(trainings.folder)
    return _resumed(trainings, whole, ", then ".join(calls), unsound)


def survive_event(trainings: Trainings, whole: dict[str, str], event: int) -> Survived:
    """The same for a training that is killed when it reports its event with this number."""
    trainings.clear()
    code = disk_calls.plain(trainings.work(die_at=event))
    if code != -signal.SIGKILL:
        raise RuntimeError(f"expected a kill at event {event}, got exit code {code}")
    return _resumed(trainings, whole, f"at event {event}", sound(trainings.folder))


def _resumed(
    trainings: Trainings, whole: dict[str, str], call: str, unsound: list[str]
) -> Survived:
    saved = max(trainings.reported("saved"), default=0)
    trainings.finish()
    lost = max(0, saved - trainings.reported("start")[-1])
    return Survived(call, unsound, differing(trainings, whole), lost)


def differing(trainings: Trainings, whole: dict[str, str]) -> list[str]:
    """Files that are not those of the undisturbed training, missing and additional ones too."""
    found = hashes(trainings.folder)
    return sorted(n for n in whole.keys() | found.keys() if whole.get(n) != found.get(n))


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 by path of every file below ``folder``, hidden ones included.

    Of a training's files one may differ between two runs: `training/clock.json`, the seconds that
    the steps took; it is left out, and so is its line in `training/SHA256SUMS`. Every other byte
    counts.
    """
    found: dict[str, str] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.endswith(progress.CLOCK):
            continue
        if name.endswith(manifest.SUMS):
            lines = path.read_text().splitlines()
            found[name] = "\n".join(x for x in lines if not x.endswith(progress.CLOCK))
        else:
            found[name] = manifest.sha256(path)
    return found


def sound(folder: Path) -> list[str]:
    """What is wrong with the checkpoints in ``folder`` that a user can see; empty if nothing."""
    wrong = []
    for directory in sorted(folder.iterdir()):
        if not directory.name.startswith("."):
            wrong += [f"{directory.name}: {w}" for w in manifest.damaged(directory)]
    return wrong
