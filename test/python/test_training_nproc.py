"""`lockstep.train` as a job with several processes: the whole way, killed, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from lockstep.training import progress
from training_run import SETTINGS, same, weights

#: The learning rate does not depend on how long the training is meant to be.
STEADY = {"schedule": "constant", "warmup": 0.0, "saveEvery": 1, "saveMinutes": None}


def train(
    home: Path,
    out: Path,
    steps: int,
    shard: bool = False,
    resume: bool = False,
    processes: int = 2,
    on_event: Callable[[dict[str, Any], int], None] = lambda event, pid: None,
    python: str | None = None,
) -> list[dict[str, Any]]:
    """Run the job to its end; its events. ``on_event`` gets each one and the job's process id.

    ``python``: the real interpreter, where the job's children are looked at.
    """
    settings = {**SETTINGS, **STEADY, "steps": steps, "accumulate": 2, "heldOut": ["text.txt"]}
    description = {
        "model": str(home / "start"), "base": str(home / "base"), "out": str(out),
        "root": str(home), "attention": "segmented", "resume": resume, "overwrite": False,
        "device": "cpu", "plot": None, "logs": None, "processes": processes, "shard": shard,
        "training": settings,
    }  # fmt: skip
    job = subprocess.Popen(
        [python or sys.executable, "-m", "lockstep.train"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdin is not None and job.stdout is not None
    job.stdin.write(json.dumps(description) + "\n")
    job.stdin.flush()
    events = []
    for line in job.stdout:
        if line.startswith("{"):
            events.append(json.loads(line))
            on_event(events[-1], job.pid)
    job.stdin.close()
    job.wait()
    return events


def ranks_of(pid: int) -> dict[str, psutil.Process]:
    return {child.environ()["RANK"]: child for child in psutil.Process(pid).children()}


def test_a_killed_process_ends_the_others_and_a_resumption_comes_to_the_same_bits(
    home: Path, tmp_path: Path, real_python: str
) -> None:
    left: list[psutil.Process] = []

    def kill(event: dict[str, Any], pid: int) -> None:
        if event["event"] == "saved" and not left:
            ranks = ranks_of(pid)
            left.extend(ranks.values())
            ranks["1"].send_signal(signal.SIGKILL)

    events = train(home, tmp_path / "parts", 100_000, on_event=kill, python=real_python)
    assert events[-1]["event"] == "error" and events[-1]["code"] == "LS_TRAIN_RANK"
    assert "exit code -9 of process 1" in events[-1]["message"]
    assert len(left) == 2 and not any(process.is_running() for process in left)
    state = json.loads((tmp_path / "parts" / progress.STATE).read_text())
    steps = state["progress"]["step"] + 2
    rest = train(home, tmp_path / "parts", steps, resume=True)
    assert rest[-1]["event"] == "result" and rest[-1]["step"] == steps
    assert [e["event"] for e in rest].count("step") == 2
    assert [e["processes"] for e in rest if e["event"] == "start"] == [2]
    whole = train(home, tmp_path / "whole", steps)
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert rest[-1]["scores"]["after"] == whole[-1]["scores"]["after"]
    # Shared out weights come to the same but for the order of the sums, the text's score included.
    sharded = train(home, tmp_path / "shards", steps, shard=True)
    assert sharded[-1]["event"] == "result", sharded[-1]
    close(tmp_path / "shards", tmp_path / "whole")
    for when in ("before", "after"):
        assert abs(sharded[-1]["scores"][when] - whole[-1]["scores"][when]) < 1e-3


def close(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    # AdamW's first steps move a weight by about the learning rate, whatever its gradient's size:
    # where that is rounding alone, two sums may move it apart.
    for name in left:
        apart = (left[name] - right[name]).abs()
        assert float(apart.median()) < 1e-5, name
        assert float(torch.quantile(apart.flatten(), 0.9)) < 1e-3, name


def test_processes_without_their_launcher_keep_others_out(
    home: Path, tmp_path: Path, real_python: str
) -> None:
    """SIGKILL for the launcher: rank 0 ends its step and saves; nobody else writes meanwhile."""
    out = tmp_path / "out"
    ranks: dict[str, psutil.Process] = {}

    class Killed(Exception):
        """The launcher is gone; its pipe is not, as its processes hold it."""

    def kill(event: dict[str, Any], pid: int) -> None:
        if event["event"] == "saved":
            ranks.update(ranks_of(pid))
            for rank in ranks.values():
                rank.suspend()
            psutil.Process(pid).send_signal(signal.SIGKILL)
            raise Killed

    with pytest.raises(Killed):
        train(home, out, 100_000, on_event=kill, python=real_python)
    assert all(rank.is_running() for rank in ranks.values())
    [event] = [e for e in train(home, out, 2, resume=True) if e["event"] == "error"]
    assert event["code"] == "LS_TRAIN_BUSY" and str(ranks["0"].pid) in event["message"]
    for rank in ranks.values():
        rank.resume()
    psutil.wait_procs(ranks.values(), timeout=60)
    assert not any(rank.is_running() for rank in ranks.values())
    step = json.loads((out / progress.STATE).read_text())["progress"]["step"]
    rest = train(home, out, step + 1, resume=True)
    assert rest[-1]["event"] == "result" and rest[-1]["step"] == step + 1


def test_more_processes_than_sequences_and_shards_of_one_are_refused(
    home: Path, tmp_path: Path
) -> None:
    [event] = train(home, tmp_path / "out", 1, processes=5)
    assert event["code"] == "LS_TRAIN_PROCESSES" and "2 x 2" in event["message"]
    [event] = train(home, tmp_path / "out", 1, processes=1, shard=True)
    assert event["code"] == "LS_TRAIN_PROCESSES" and "--nproc" in event["fix"]


def test_torchrun_starts_the_processes_from_a_file(home: Path, tmp_path: Path) -> None:
    """Two of them, with shared out weights: the result of `--nproc 2 --shard`."""
    settings = {**SETTINGS, **STEADY, "steps": 2, "accumulate": 2, "saveEvery": None}
    job = tmp_path / "job.json"
    description = {
        "model": str(home / "start"), "base": str(home / "base"), "out": str(tmp_path / "out"),
        "root": str(home), "attention": "segmented", "resume": False, "overwrite": False,
        "device": "cpu", "plot": None, "logs": None, "processes": 2, "shard": True,
        "training": settings,
    }  # fmt: skip
    job.write_text(json.dumps(description) + "\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    out = subprocess.run(
        [*command, "--nproc-per-node", "2", "-m", "lockstep.train"],
        env={**os.environ, "LOCKSTEP_JOB": str(job), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert out.returncode == 0, out.stderr
    events = [json.loads(line) for line in out.stdout.splitlines() if line.startswith("{")]
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2]
    assert {e.get("rank", 0) for e in events if e["event"] == "result"} == {0, 1}
    state = json.loads((tmp_path / "out" / progress.STATE).read_text())
    assert state["progress"]["step"] == 2
