"""Processes of a training that are no training: what becomes of the others, and what is said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.training import launch

#: A process that says one thing, or nothing, and ends on SIGTERM or by itself after some seconds.
RANK = """
import json, os, signal, sys, time
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
def say(text):
    os.write(int(os.environ["LOCKSTEP_EVENTS_FD"]), text.encode())
until = time.monotonic() + 20
def wait():
    while not stop and time.monotonic() < until:
        time.sleep(0.01)
rank = os.environ["RANK"]
sys.stdin.readline()
"""
RESULT = 'say(json.dumps({"event": "result", "out": "here"}) + "\\n")'


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch, real_python: str) -> Iterator[Any]:
    """Makes every rank run a script; the processes that were started, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def make(script: str, most: int = 100) -> list[subprocess.Popen[bytes]]:
        def start(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
            if len(started) == most:
                raise BlockingIOError("no more processes")
            started.append(popen([real_python, "-I", "-S", "-c", RANK + script], **options))
            return started[-1]

        monkeypatch.setattr("subprocess.Popen", start)
        return started

    yield make
    for process in started:
        process.kill()
        process.wait()


def failure(processes: int = 2) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        launch.run({}, processes)
    return caught.value


def test_a_result_comes_back(ranks: Any) -> None:
    ranks(RESULT)
    assert launch.run({}, 2) == {"out": "here"}


def test_where_one_does_not_start_those_before_it_are_ended(ranks: Any) -> None:
    started = ranks("wait()", most=2)
    before = psutil.Process().num_fds()
    with pytest.raises(BlockingIOError, match="no more processes"):
        launch.run({}, 3)
    assert [process.poll() is not None for process in started] == [True, True]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert psutil.Process().num_fds() == before


def test_an_end_without_a_result_is_no_cancellation(ranks: Any) -> None:
    ranks("")
    error = failure()
    assert error.code == "LS_TRAIN_RANK" and "a result from process 0" in error.message


@pytest.mark.parametrize("line", ["not an event", "[1]", "{}", "3"])
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_line_that_is_no_event_ends_all_and_is_shown(ranks: Any, rank: str, line: str) -> None:
    ranks(f'if rank == "{rank}": say("{line}\\n")\nwait()\n{RESULT}')
    error = failure()
    assert error.code == "LS_TRAIN_RANK"
    assert f"from process {rank}" in error.message and repr(line + "\n") in error.message


def test_an_error_of_its_own_says_more_than_a_line(ranks: Any) -> None:
    own = '{"event": "error", "code": "LS_DISK_FULL", "message": "full"}'
    ranks(f"say('nothing\\n' + '{own}\\n')")
    assert failure().code == "LS_DISK_FULL"


def test_half_a_line_of_a_killed_process_is_no_line(ranks: Any) -> None:
    ranks('say(\'{"event": "st\')\nos.kill(os.getpid(), signal.SIGKILL)')
    assert "exit code -9" in failure().message


def test_a_rank_asked_to_stop_before_it_listens_is_cancelled(
    ranks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks('if rank == "1": signal.signal(signal.SIGTERM, signal.SIG_DFL)\nwait()')
    monkeypatch.setattr("lockstep.bridge.job._stopping", True)
    with pytest.raises(job.Cancelled):
        launch.run({}, 2)


def test_a_rank_that_another_program_ends_is_not_cancelled(ranks: Any) -> None:
    ranks("signal.signal(signal.SIGTERM, signal.SIG_DFL)\nos.kill(os.getpid(), signal.SIGTERM)")
    assert "exit code -15" in failure().message
