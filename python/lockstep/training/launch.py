"""`--nproc N`: one process for each rank, watched by this one.

Ranks get the same environment variables as under torchrun, so `lockstep.train` runs the same way
under both. Rank 0's events are passed on; the first error of any rank is the training's error. When
one rank fails, the others are ended too, because they would wait for it forever.
"""

from __future__ import annotations

import contextlib
import json
import os
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
        readable, writable = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "lockstep.train"],
            stdin=subprocess.PIPE,
            pass_fds=(writable,),
            env=_environment(rank, world, port) | {"LOCKSTEP_EVENTS_FD": str(writable)},
        )
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
        with open(descriptor, encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                name = event.pop("event")
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

    Raises the error of the rank that failed first, LS_TRAIN_RANK where one was killed.
    """
    with reserved_port() as port:
        return _run(description, processes, port)


def _run(description: dict[str, Any], processes: int, port: int) -> dict[str, Any]:
    ranks = [_Rank(rank, processes, port, description) for rank in range(processes)]
    ended: list[_Rank] = []
    try:
        _watch(ranks)
        ended = [rank for rank in ranks if rank.process.poll() is not None]
    finally:
        for rank in ranks:
            rank.process.kill()
        codes = [rank.wait() for rank in ranks]
    if any(rank.cancelled for rank in ranks) and ranks[0].result is None:
        raise job.Cancelled
    failed = sorted((r for r in ranks if r.error is not None), key=lambda rank: rank.failed_at)
    errors = [rank.error for rank in failed if rank.error is not None]
    # That a peer is gone says less than why it went.
    errors.sort(key=lambda error: error["code"] == "LS_TRAIN_RANK")
    killed = [rank.rank for rank in ended if rank.error is None and not _ended_well(rank)]
    if killed and (not errors or errors[0]["code"] in CONSEQUENCES):
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
        raise job.Cancelled
    return ranks[0].result


def _watch(ranks: list[_Rank]) -> None:
    """Until all have ended: pass a wish to stop on, and end the others when one ends badly."""
    told, deadline = False, None
    while any(rank.process.poll() is None for rank in ranks):
        if job.cancelled() and not told:
            told = True
            for rank in ranks:
                rank.process.terminate()
        if deadline is None and any(rank.process.poll() not in (None, 0, 3) for rank in ranks):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(0.05)


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
