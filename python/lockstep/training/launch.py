"""`--nproc N`: one process for each rank, watched by this one.

Ranks get the same environment variables as under torchrun, so `lockstep.train` runs the same way
under both. Rank 0's events are passed on; the first error of any rank is the training's error. When
one rank fails, the others are ended too, because they would wait for it forever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from lockstep.bridge import job
from lockstep.errors import LockstepError

#: What the loss of another process looks like, at a meeting of our own and within a library.
CONSEQUENCES = ("LS_TRAIN_RANK", "LS_PYTHON_FAILED")
GRACE = 10.0  # seconds that the others get to report after one has ended badly


class _Rank:
    """One process: its events are read by a thread of its own."""

    def __init__(self, rank: int, world: int, port: int, description: dict[str, Any]):
        self.rank = rank
        self.result: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.failed_at = 0.0
        self.cancelled = False
        #: The first line that is no event.
        self.unreadable: str | None = None
        readable, writable = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "lockstep.train"],
                stdin=subprocess.PIPE,
                pass_fds=(writable,),
                env=_environment(rank, world, port) | {"LOCKSTEP_EVENTS_FD": str(writable)},
            )
        except BaseException:
            os.close(readable)
            raise
        finally:
            os.close(writable)
        assert self.process.stdin is not None
        # It stays open: its end tells the rank that this process is gone.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(description).encode() + b"\n")
            self.process.stdin.flush()
        self._reader = threading.Thread(target=self._read, args=(readable,), daemon=True)
        self._reader.start()

    def wait(self) -> int:
        """Exit code, once all events are read."""
        code = self.process.wait()
        self._reader.join()
        return code

    def _read(self, descriptor: int) -> None:
        with open(descriptor, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                    name = event.pop("event")
                except (ValueError, AttributeError, LookupError, TypeError):
                    # Without its end it is what a killed process did not write any more.
                    if line.endswith("\n"):
                        self.unreadable = self.unreadable or line
                    continue
                if name == "error":
                    self.error = self.error or event
                    self.failed_at = time.monotonic()
                elif name == "cancelled":
                    self.cancelled = True
                elif self.rank == 0 and name == "result":
                    self.result = event
                elif self.rank == 0:
                    job.emit(name, **event)


def run(description: dict[str, Any], processes: int) -> dict[str, Any]:
    """Train in ``processes`` ranks on this machine; returns rank 0's result.

    Raises the error of the rank that failed first; LS_TRAIN_RANK where one was killed, wrote a line
    that is no event, or ended without a result.
    """
    with reserved_port() as port:
        return _run(description, processes, port)


def _run(description: dict[str, Any], processes: int, port: int) -> dict[str, Any]:
    ranks: list[_Rank] = []
    ended: list[_Rank] = []
    try:
        # One after the other: where one does not start, those before it are ended below.
        for rank in range(processes):
            ranks.append(_Rank(rank, processes, port, description))
        _watch(ranks)
        ended = [one for one in ranks if one.process.poll() is not None]
    finally:
        for started in ranks:
            started.process.kill()
        codes = [started.wait() for started in ranks]
    unreadable = [(one.rank, one.unreadable) for one in ranks if one.unreadable is not None]
    cancelled = any(one.cancelled or _never_began(one) for one in ranks)
    if cancelled and ranks[0].result is None and not unreadable:
        raise job.Cancelled
    failed = sorted((r for r in ranks if r.error is not None), key=lambda rank: rank.failed_at)
    errors = [rank.error for rank in failed if rank.error is not None]
    # That a peer is gone says less than why it went.
    errors.sort(key=lambda error: error["code"] == "LS_TRAIN_RANK")
    killed = [rank.rank for rank in ended if rank.error is None and not _ended_well(rank)]
    unexplained = not errors or errors[0]["code"] in CONSEQUENCES
    if unreadable and unexplained:
        number, line = unreadable[0]
        raise LockstepError(
            "LS_TRAIN_RANK",
            f"expected one JSON event a line from process {number}, got {line[:80]!r}",
            "Report events through lockstep.job.emit alone; continue with --resume.",
        )
    if killed and unexplained:
        raise LockstepError(
            "LS_TRAIN_RANK",
            f"expected {processes} processes to train to the end, got exit code "
            f"{codes[killed[0]]} of process {killed[0]}",
            "A process killed by the system often means that memory ran out: use fewer processes, "
            "a smaller batch or segment; continue with --resume.",
        )
    if errors:
        fields = {k: errors[0].get(k) for k in ("code", "message", "fix", "field")}
        raise LockstepError(**fields)  # type: ignore[arg-type]
    if ranks[0].result is None:
        raise LockstepError(
            "LS_TRAIN_RANK",
            f"expected a result from process 0, got exit code {codes[0]} without one",
            "Read what it printed last; continue with --resume.",
        )
    return ranks[0].result


def _watch(ranks: list[_Rank]) -> None:
    """Until all have ended: pass a wish to stop on, and end the others when one ends badly.

    What one writes may be no event: then nobody can follow the training, and all are asked to stop.
    """
    told, deadline = False, None
    while any(rank.process.poll() is None for rank in ranks):
        if not told and (job.cancelled() or any(rank.unreadable for rank in ranks)):
            told = True
            for rank in ranks:
                rank.process.terminate()
        if deadline is None and any(rank.process.poll() not in (None, 0, 3) for rank in ranks):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _never_began(rank: _Rank) -> bool:
    """Whether it was asked to stop before it could listen: Python itself was still starting."""
    return job.cancelled() and rank.error is None and rank.process.returncode == -signal.SIGTERM


def _ended_well(rank: _Rank) -> bool:
    return rank.process.returncode == 0 or rank.cancelled


def _environment(rank: int, world: int, port: int) -> dict[str, str]:
    threads = max(1, len(os.sched_getaffinity(0)) // world)
    return {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A port that the system gives to no other program until rank 0 listens on it.

    Seconds pass between finding a free port and using it. So this process binds the port, with
    SO_REUSEADDR, and does not listen: rank 0, which sets SO_REUSEADDR too, may then listen on it.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
