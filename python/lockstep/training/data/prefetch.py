"""Sequences cut by the contract's policy ahead of the training, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from lockstep.contract.planner import Planner, PlannerSource
from lockstep.errors import LockstepError

from .store import Tokens

Window = tuple[int, int, int]  # file, first token, last token (exclusive)
Planned = tuple[list[int], list[int]]  # ids, boundaries
# Requests that wait for one worker. They must fit the pipe (4 KiB at the least): a worker whose
# answers nobody reads yet does not read requests either.
WAITING = 64
PACKAGES = Path(__file__).resolve().parents[3]


def with_bos(ids: list[int], bos: int | None) -> list[int]:
    """A sequence as the server begins it: with BOS, and never twice (templates may write it)."""
    return ids if bos is None or ids[:1] == [bos] else [bos, *ids]


class Prefetcher:
    """Plans windows of token files, in workers before they are asked for.

    A worker reads the tokens from the cache itself: requests and answers are a line each, and the
    ends of the pipes tell each side of the other's death.
    """

    def __init__(
        self,
        tokens: Tokens,
        bos: int | None,
        contract: PlannerSource,
        workers: int,
        warn: Callable[[str], None],
    ):
        self._tokens, self._bos, self._contract, self._warn = tokens, bos, contract, warn
        self._planner: Planner | None = None
        self._count = workers
        self._workers: list[subprocess.Popen[str]] = []
        self._sent: deque[tuple[Window, subprocess.Popen[str]]] = deque()
        self._turn = 0

    def take(self, windows: list[Window], coming: list[Window]) -> list[Planned]:
        """Ids and boundaries of ``windows``; ``coming`` are cut meanwhile."""
        ids = [self._ids(window) for window in windows]
        if self._count:
            try:
                cuts = self._from_workers(windows, coming)
                return list(zip(ids, cuts, strict=True))
            except OSError as error:
                self._stop()
                self._count = 0
                self._warn(
                    f"a prefetch worker exited ({error}); the trainer now cuts sequences itself"
                )
        return [(one, self._plan(one)) for one in ids]

    def close(self) -> None:
        """Stop workers and planner. Idempotent."""
        self._stop()
        if self._planner is not None:
            self._planner.close()

    def _from_workers(self, windows: list[Window], coming: list[Window]) -> list[list[int]]:
        while len(self._workers) < self._count:
            self._workers.append(self._start())
        wanted = [*windows, *coming]
        if [window for window, _ in self._sent] != wanted[: len(self._sent)]:
            while self._sent:  # the cursor was moved: what is under way is of no use
                self._answer()
        left = deque(wanted[len(self._sent) :])
        cuts = []
        for _ in windows:
            while left and len(self._sent) < WAITING * len(self._workers):
                self._send(left.popleft())
            cuts.append(self._answer())
        while left and len(self._sent) < WAITING * len(self._workers):
            self._send(left.popleft())
        return cuts

    def _send(self, window: Window) -> None:
        worker = self._workers[self._turn % len(self._workers)]
        self._turn += 1
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(window) + "\n")
        worker.stdin.flush()
        self._sent.append((window, worker))

    def _answer(self) -> list[int]:
        _, worker = self._sent.popleft()
        assert worker.stdout is not None
        line = worker.stdout.readline()
        if not line.endswith("\n"):
            raise OSError(f"exit code {worker.wait()}")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise LockstepError(**answer)
        cuts: list[int] = answer
        return cuts

    def _start(self) -> subprocess.Popen[str]:
        paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
        worker = subprocess.Popen(
            [sys.executable, "-m", "lockstep.training.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            text=True,
        )
        assert worker.stdin is not None
        description = {
            "files": self._tokens.files,
            "bos": self._bos,
            "contract": dict(self._contract.document),
            "policy": self._contract.policy_source,
        }
        worker.stdin.write(json.dumps(description) + "\n")
        worker.stdin.flush()
        return worker

    def _stop(self) -> None:
        for worker in self._workers:
            worker.kill()  # it holds nothing that could be lost
            worker.wait()
            for stream in (worker.stdin, worker.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except OSError:  # what was left to send
                        continue
        self._workers, self._sent = [], deque()

    def _ids(self, window: Window) -> list[int]:
        ids: list[int] = self._tokens.read(*window).tolist()
        return with_bos(ids, self._bos)

    def _plan(self, ids: list[int]) -> list[int]:
        if self._planner is None:
            self._planner = Planner(self._contract)
        return self._planner.plan(ids)
