"""Runs policy.js, the very bytes that Node runs, in quickjs-ng.

A QuickJS context belongs to one thread, releases the GIL while it computes, and measures its time
limit in CPU time of the whole process. So every runtime has a thread of its own: any thread may
call, a wall clock guards the call, and a policy that never answers cannot take the caller with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import os
import queue
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import quickjs

from .errors import LockstepError

_MIB = 1 << 20
_BATCH = 1 << 13  # tokens that cross in one call: a few milliseconds of work
_PATIENCE = 60.0  # seconds until a stuck engine on a busy machine has used up its CPU time
_STACK = 512 << 10  # bytes; the thread's own stack is larger

_MENDS = {
    "LS_PLAN_TOKEN": "give token ids of the contract's own tokenizer",
    "LS_PLAN_CLOSED": "open another sequence, or restore one from a snapshot",
    "LS_POLICY_FORBIDDEN": "a policy may read tokens and its tables; compute the rest in prepare",
    "LS_POLICY_RESULT": "return true to ask for a cut after the token, false otherwise",
    "LS_POLICY_STATE": "keep numbers, strings, booleans, null, lists and plain objects in it",
}


class PolicyRuntime:
    """One policy, any number of sequences (handles). Thread-safe; calls are serialised.

    ``tables`` and ``segment`` are those of the contract, ``vocabulary`` the number of token ids.
    A policy may take ``seconds`` over a few thousand tokens and ``megabytes`` of memory; one that
    takes more stops the runtime (``LS_POLICY_LIMIT``), one that throws ends the sequence it was at
    work on. After a fork the child gets a fresh thread, and handles opened before are closed.
    """

    def __init__(
        self,
        source: str,
        tables: Any,
        segment: Mapping[str, int],
        *,
        vocabulary: int = 2**31 - 1,
        name: str = "policy",
        seconds: float = 5.0,
        megabytes: int = 256,
    ):
        self._source, self._tables = source, json.dumps(tables)
        self._limits = json.dumps({**segment, "vocabulary": vocabulary})
        self._name, self._seconds, self._megabytes = name, seconds, megabytes
        self._lock = threading.Lock()
        self._stopped: LockstepError | None = None
        self._start()

    def open(self) -> int:
        """A new sequence."""
        return int(self._call("open"))

    def push(self, handle: int, tokens: Sequence[int]) -> list[int]:
        """Push tokens of one sequence; the cuts decided (number of tokens before each)."""
        return self.push_many([(handle, tokens)])[0]

    def push_many(self, pushes: Sequence[tuple[int, Sequence[int]]]) -> list[list[int]]:
        """Push tokens of many sequences; per push the cuts decided.

        Raises ``LS_POLICY_*`` and ``LS_PLAN_TOKEN`` naming the policy, the token's index in its
        sequence and its id; none of the sequences pushed can go on then.
        """
        cuts: list[list[int]] = [[] for _ in pushes]
        for parts in _batches(pushes):
            cells: list[int] = []
            for _, handle, ids in parts:
                cells += (handle, len(ids))
                cells += ids
            answer = list(map(int, self._call("push", _decimals(cells)).split(",")))
            at = 0
            for i, _, _ in parts:
                count = answer[at]
                at += 1
                if count:
                    cuts[i] += answer[at : at + count]
                    at += count
        return cuts

    def where(self, handle: int) -> tuple[int, int]:
        """(tokens seen, tokens in the open segment) of a sequence."""
        position, length = self._call("where", handle).split(",")
        return int(position), int(length)

    def snapshot(self, handle: int) -> str:
        """JSON from which ``restore`` goes on exactly, here or in Node."""
        return self._call("snapshot", handle)

    def restore(self, snapshot: str) -> int:
        """A new sequence from a snapshot."""
        return int(self._call("restore", snapshot))

    def free(self, handle: int) -> None:
        """Forget a sequence. Idempotent."""
        if self._stopped is None:
            self._call("free", handle)

    def describe(self) -> dict[str, Any]:
        """``name`` and ``params`` of the policy, as policy.js has them."""
        described: dict[str, Any] = json.loads(self._call("describe"))
        return described

    def close(self) -> None:
        """Stop the thread. Idempotent."""
        self._finalizer()
        self._stopped = self._stopped or self._error(
            "LS_PLAN_CLOSED", "expected an open planner, got a closed one"
        )

    # The thread

    def _start(self) -> None:
        self._pid = os.getpid()
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(
            target=_serve,
            args=(self._calls, self._source, self._seconds * _cpus(), self._megabytes * _MIB),
            name=f"lockstep-policy-{self._name}",
            daemon=True,
        )
        thread.start()
        self._finalizer = weakref.finalize(self, self._calls.put, None)
        self._call("load", self._tables, self._limits)

    def _call(self, function: str, *arguments: Any) -> str:
        if self._pid != os.getpid():
            # A fork copies no threads, and a lock as it was.
            self._lock = threading.Lock()
            self._finalizer.detach()
            self._start()
        with self._lock:
            if self._stopped is not None:
                raise self._stopped
            reply: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
            self._calls.put((function, arguments, reply))
            kind, text = self._wait(reply)
            if kind == "failed":
                index, token = (int(word) for word in text.split(",")) if text else (-1, -1)
                why = f"loops, or needs more than {self._megabytes} MiB or {self._seconds:g} s"
                self._stopped = self._error(
                    "LS_POLICY_LIMIT", f"expected an answer, got none: it {why}", index, token
                )
                raise self._stopped
        if kind == "threw":
            raise self._error("LS_POLICY_LOAD", f"threw {text} when it was loaded")
        if not text.startswith('{"error":'):
            return text
        error = json.loads(text)["error"]
        raise self._error(error["code"], error["message"], error["index"], error["token"])

    def _wait(self, reply: queue.SimpleQueue[tuple[str, str]]) -> tuple[str, str]:
        try:
            return reply.get(timeout=self._seconds)
        except queue.Empty:
            pass
        # The engine's limit is CPU time of the process, so high that busy neighbour threads cannot
        # use it up in `seconds`. Now the wall clock has spoken, and the rest of that CPU time is
        # spent on purpose: the engine then stops, and can say at which token it was.
        answered = threading.Event()
        for _ in range(_cpus() - 1):
            threading.Thread(target=_spend, args=(answered,), daemon=True).start()
        try:
            return reply.get(timeout=max(_PATIENCE, 3 * self._seconds))
        except queue.Empty:
            return "failed", ""
        finally:
            answered.set()

    def _error(self, code: str, message: str, index: int = -1, token: int = -1) -> LockstepError:
        at = f" at token {index} (id {token})" if index >= 0 else ""
        mend = _MENDS.get(code, "correct the policy, and make the contract again")
        return LockstepError(code, f"policy {self._name}{at}: {message}", mend)


def _serve(calls: queue.SimpleQueue[Any], source: str, seconds: float, memory: int) -> None:
    """Own one context: take calls, answer ("ok" | "threw" | "failed", text)."""
    context = quickjs.Context()
    context.set_max_stack_size(_STACK)
    context.set_memory_limit(memory)
    context.set_time_limit(seconds)
    functions: dict[str, Any] = {}
    while (call := calls.get()) is not None:
        function, arguments, reply = call
        try:
            if not functions:
                context.eval(source)
                functions = {name: context.eval(f"lockstep.{name}") for name in _FUNCTIONS}
            reply.put(("ok", functions[function](*arguments)))
        except (quickjs.JSException, quickjs.StackOverflow) as error:
            text = str(error).splitlines()[0]
            if "interrupted" not in text and "out of memory" not in text:
                reply.put(("threw", text))
                continue
            context.set_memory_limit(memory + 16 * _MIB)  # room for this last question
            try:
                reply.put(("failed", functions["progress"]() if functions else ""))
            except (quickjs.JSException, quickjs.StackOverflow):
                reply.put(("failed", ""))


_FUNCTIONS = (
    "load",
    "open",
    "push",
    "where",
    "snapshot",
    "restore",
    "free",
    "describe",
    "progress",
)


def _batches(
    pushes: Sequence[tuple[int, Sequence[int]]],
) -> Iterator[list[tuple[int, int, Sequence[int]]]]:
    """Split pushes into (index, handle, tokens) lists of at most _BATCH tokens."""
    parts: list[tuple[int, int, Sequence[int]]] = []
    room = _BATCH
    for index, (handle, tokens) in enumerate(pushes):
        start = 0
        while start < len(tokens):
            part = tokens[start : start + room]
            parts.append((index, handle, part))
            start, room = start + len(part), room - len(part)
            if room == 0:
                yield parts
                parts, room = [], _BATCH
    if parts:
        yield parts


def _decimals(tokens: Sequence[int]) -> str:
    try:
        return ",".join(map(repr, map(operator.index, tokens)))
    except TypeError as error:
        raise LockstepError(
            "LS_PLAN_TOKEN",
            f"expected integers as token ids, got: {error}",
            _MENDS["LS_PLAN_TOKEN"],
        ) from error


def _cpus() -> int:
    """Cores this process can use at once: CPU time cannot pass faster than this times wall time."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return cpus


def _spend(answered: threading.Event) -> None:
    block = bytes(_MIB)
    while not answered.is_set():
        hashlib.sha256(block)
