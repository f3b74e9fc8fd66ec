"""lockstep.job by hand: without Node, events go to stdout."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lockstep import job
from lockstep.errors import LockstepError

HERE = Path(__file__).parent
ENV = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE.parents[1] / "python"), str(HERE / "faults")]),
}
ENV.pop("LOCKSTEP_EVENTS_FD", None)


def start(description: str):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fault_jobs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )
    process.stdin.write(description + "\n")
    process.stdin.flush()
    return process


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_events_go_to_stdout_without_node():
    out, _ = (process := start('{"fault": "none"}')).communicate(timeout=60)
    assert process.returncode == 0
    assert [event["event"] for event in events(out)] == ["progress"] * 3 + ["result"]


@pytest.mark.parametrize("line", ["nonsense", "[1]", ""])
def test_a_description_that_is_no_object_is_named(line):
    out, _ = (process := start(line)).communicate(timeout=60)
    assert process.returncode == 1
    assert events(out)[-1]["code"] == "LS_JOB_DESCRIPTION"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_ask_for_a_stop(number):
    process = start('{"fault": "until-cancelled", "result": false}')
    assert json.loads(process.stdout.readline())["event"] == "ready"
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert events(out)[-1] == {"event": "cancelled"}
    assert process.returncode == 3


def test_errors_are_reported_in_one_shape(monkeypatch):
    monkeypatch.delenv("LOCKSTEP_DEBUG", raising=False)
    assert job.as_error(LockstepError("LS_A_B", "m", "how", "f")) == {
        "code": "LS_A_B",
        "message": "m",
        "fix": "how",
        "field": "f",
    }
    assert job.as_error(OSError(28, "full", "x.bin"))["code"] == "LS_DISK_FULL"
    plain = job.as_error(ValueError("odd"))
    assert plain["code"] == "LS_PYTHON_FAILED" and "traceback" not in plain
    monkeypatch.setenv("LOCKSTEP_DEBUG", "1")
    assert "ValueError" in job.as_error(ValueError("odd"))["traceback"]
