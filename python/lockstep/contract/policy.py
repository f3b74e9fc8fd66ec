"""Runs policy.js: the same bytes as in Node, in the same engine as in Node (quickjs.py).

The policy has no object of this process, no memory but the engine's, and limits on time and memory
that lie outside of it. What comes back is text and integers, and is checked.
"""

from __future__ import annotations

import json
import operator
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from ..errors import LockstepError
from .policy_runtimes import runtime_text
from .quickjs import EngineError, Image, QuickJs

_T = TypeVar("_T")

_HEADER = 4  # cells before the tokens: status, handle, index and token at work
_CELLS = 1 << 14  # tokens and their handles that cross in one call
_CALL_FACTOR = 12  # a call over many tokens may take this many times what one token may

_FIXES = {
    "LS_PLAN_TOKEN": "Give token ids of the contract's own tokenizer.",
    "LS_PLAN_CLOSED": "Open another sequence, or restore one from a snapshot.",
    "LS_POLICY_FORBIDDEN": "A policy may read tokens and its tables; compute the rest in prepare.",
    "LS_POLICY_MEMORY": "Keep what push remembers in the state: all else is shared, and frozen.",
    "LS_POLICY_RESULT": "Return true to ask for a cut after the token, false otherwise.",
    "LS_POLICY_STATE": "Keep numbers, strings, booleans, null, lists and plain objects in it.",
}


class _Started(NamedTuple):
    """An engine that has loaded a runtime, and no policy yet."""

    image: Image
    offset: int
    invoke: int


_started: dict[tuple[str, int], _Started] = {}


class PolicyRuntime:
    """One policy, any number of sequences (handles). Thread-safe; calls are serialised.

    ``tables`` and ``segment`` are those of the contract, ``vocabulary`` the number of token ids,
    ``runtime`` the contract's ``policy.runtime``. A policy may take ``seconds`` over a token and
    ``megabytes`` of memory; one that loops stops the runtime (``LS_POLICY_LIMIT``), one that
    throws, or takes too much memory, ends the sequence it was at work on. After a fork the child
    gets a fresh engine, and handles opened before are closed.
    """

    def __init__(
        self,
        source: str,
        tables: Any,
        segment: Mapping[str, int],
        *,
        vocabulary: int = 2**31 - 1,
        name: str = "policy",
        runtime: Mapping[str, Any] | None = None,
        seconds: float = 5.0,
        megabytes: int = 64,
    ):
        self._source, self._runtime = source, runtime_text(runtime)
        self._given = json.dumps(
            {"tables": tables, "limits": {**segment, "vocabulary": vocabulary}}
        )
        self._segment, self._name = segment, name
        self._seconds, self._megabytes = seconds, megabytes
        self._stopped: LockstepError | None = None
        self._start()

    def open(self) -> int:
        """A new sequence."""
        with self._ready():
            return self._added(self._call("open"), (0, 0))

    def push(self, handle: int, tokens: Sequence[int]) -> list[int]:
        """Push tokens of one sequence; the cuts decided (number of tokens before each)."""
        return self.push_many([(handle, tokens)])[0]

    def push_many(self, pushes: Sequence[tuple[int, Sequence[int]]]) -> list[list[int]]:
        """Push tokens of many sequences; per push the cuts decided.

        Raises ``LS_POLICY_*`` and ``LS_PLAN_TOKEN`` naming the policy, the token's index in its
        sequence and its id; none of the sequences pushed can continue then.
        """
        cuts: list[list[int]] = [[] for _ in pushes]
        for parts in _batches(pushes):
            with self._ready():
                try:
                    self._exchange(parts, cuts)
                except LockstepError:
                    for _, handle, _ in parts:
                        self._free(handle)
                    raise
        return cuts

    def push_each(
        self, pushes: Sequence[tuple[int, Sequence[int]]]
    ) -> list[list[int] | LockstepError]:
        """Push tokens of sequences that have nothing to do with each other, as many as in one call
        of ``push_many``; per push the cuts decided, or the error of a sequence that failed alone.

        Each handle may occur once. Raises what stops the runtime for all.
        """
        cuts: list[list[int]] = [[] for _ in pushes]
        failed: dict[int, LockstepError] = {}
        for batch in _batches(pushes):
            parts = [part for part in batch if part[0] not in failed]
            if not parts:
                continue
            with self._ready():
                try:
                    self._exchange(parts, cuts)
                except LockstepError as error:
                    failed |= self._apart(parts, cuts, error)
        return [failed.get(index, found) for index, found in enumerate(cuts)]

    def where(self, handle: int) -> tuple[int, int]:
        """(tokens seen, tokens in the open segment) of a sequence."""
        with self._ready():
            position, length = self._call("where", str(handle)).split(",")
        return int(position), int(length)

    def snapshot(self, handle: int) -> str:
        """JSON from which ``restore`` continues exactly, here or in Node."""
        with self._ready():
            return self._call("snapshot", str(handle))

    def restore(self, snapshot: str) -> int:
        """A new sequence from a snapshot. Raises ``LS_PLAN_SNAPSHOT`` where the text is none."""
        standing = _standing(snapshot, self._segment["max"])
        with self._ready():
            return self._added(self._call("restore", snapshot), standing)

    def free(self, handle: int) -> None:
        """Forget a sequence. Idempotent."""
        if self._stopped is None:
            with self._ready():
                self._free(handle)

    def describe(self) -> dict[str, Any]:
        """``name`` and ``params`` of the policy, as policy.js has them."""
        with self._ready():
            described: dict[str, Any] = json.loads(self._call("describe"))
        return described

    def close(self) -> None:
        """Forget the policy. Idempotent."""
        self._stopped = self._stopped or self._error(
            "LS_PLAN_CLOSED", "expected an open planner, got a closed one"
        )

    # The engine

    def _start(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._standing: dict[int, tuple[int, int]] = {}
        known = _started.get((self._runtime, self._megabytes))
        if known is None:
            self._engine = engine = QuickJs(self._megabytes)
            buffer, self._offset = engine.buffer(4 * (_HEADER + _CELLS))
            self._invoke = self._evaluate(self._runtime, "policy-runtime.js")
            self._call("cells", buffer)
            loaded = _Started(engine.image(), self._offset, self._invoke)
            _started[self._runtime, self._megabytes] = loaded
        else:
            self._engine = QuickJs(self._megabytes, known.image)
            self._offset, self._invoke = known.offset, known.invoke
        self._call("policy", self._evaluate(self._source, "policy.js"))
        self._call("load", self._given)

    def _ready(self) -> threading.Lock:
        """The lock, of an engine that belongs to this process."""
        if self._pid != os.getpid():
            # A fork copies a lock as it was, and an engine perhaps in the middle of a call.
            self._start()
        return self._lock

    def _added(self, text: str, standing: tuple[int, int]) -> int:
        try:
            handle = int(text)
        except ValueError:
            raise self._broken() from None
        self._standing[handle] = standing
        return handle

    def _free(self, handle: int) -> None:
        self._standing.pop(handle, None)
        if self._stopped is not None:
            return
        try:
            self._call("free", str(handle))
        except LockstepError:
            # A stopped engine has nothing left to free.
            if self._stopped is None:
                raise

    def _exchange(self, parts: list[_Part], cuts: list[list[int]]) -> None:
        cells = array("i", (0, -1, -1, -1))
        try:
            for _, handle, ids in parts:
                cells.append(handle)
                cells.append(len(ids))
                cells.extend(map(operator.index, ids))
        except TypeError as error:
            raise self._bad_token(f"expected integers as token ids, got: {error}") from error
        except OverflowError:
            raise self._bad_token("expected token ids below 2^31, got a larger one") from None
        cells[0] = len(cells) - _HEADER
        self._engine.write(cells.tobytes(), self._offset)
        self._call("push")
        self._take(parts, cuts)

    def _apart(
        self, parts: list[_Part], cuts: list[list[int]], error: LockstepError
    ) -> dict[int, LockstepError]:
        """After an exchange that failed: take the answers of those that were pushed, and push those
        that were not one by one. The errors by index."""
        if self._stopped is not None:
            raise error
        failed: dict[int, LockstepError] = {}
        begun = 0
        for index, handle, ids in parts:
            standing = self._standing.get(handle)
            at = None if standing is None else self._position(handle)
            if standing is not None and at is None:
                failed[index] = error
            if standing is None or at is None or at < standing[0] + len(ids):
                break
            begun += 1
        self._take(parts[:begun], cuts)
        for part in parts[begun + len(failed) :]:
            try:
                self._exchange([part], cuts)
            except LockstepError as own:
                if self._stopped is not None:
                    raise
                failed[part[0]] = own
        for index, handle, _ in parts:
            if index in failed:
                self._free(handle)
        return failed

    def _position(self, handle: int) -> int | None:
        """Tokens that an open sequence has seen; None of one that is closed."""
        try:
            return int(self._call("where", str(handle)).split(",")[0])
        except LockstepError as error:
            if error.code != "LS_PLAN_CLOSED":
                raise
            return None

    def _take(self, parts: list[_Part], cuts: list[list[int]]) -> None:
        """Read what was answered to the first parts of an exchange."""
        answer = self._cells(_HEADER + sum(1 + len(ids) for _, _, ids in parts))
        least, most, align = (self._segment[key] for key in ("min", "max", "align"))
        at = _HEADER
        for index, handle, ids in parts:
            count = answer[at]
            position, start = self._standing.get(handle, (0, 0))
            position += len(ids)
            if not 0 <= count <= len(ids):
                raise self._broken()
            for cut in answer[at + 1 : at + 1 + count]:
                length = cut - start
                if not least <= length <= most or length % align or cut > position:
                    raise self._broken()
                cuts[index].append(cut)
                start = cut
            if position - start >= most:
                raise self._broken()
            self._standing[handle] = position, start
            at += 1 + count

    def _cells(self, count: int) -> array[int]:
        cells = array("i")
        cells.frombytes(bytes(self._engine.read(self._offset, self._offset + 4 * count)))
        return cells

    def _call(self, operation: str, given: str | int | None = None) -> str:
        """What an operation of the runtime answers. Raises ``LS_POLICY_*``, ``LS_PLAN_*``."""
        if self._stopped is not None:
            raise self._stopped
        engine = self._engine
        interrupt, seconds = self._timer()
        values: list[int] = []

        def call() -> int:
            values.append(engine.name(operation))
            if given is not None:
                values.append(engine.text(given) if isinstance(given, str) else given)
            return engine.call(self._invoke, values, interrupt, seconds)

        answer = self._guard(call)
        if given is not None:
            engine.free(values[1])
        # A push is answered in the cells: its text, which is empty, need not be fetched.
        if operation == "push" and self._cells(1)[0] >= 0:
            engine.free(answer)
            return ""
        text = self._guard(lambda: engine.take(answer))
        if not text.startswith('{"error":'):
            return text
        error = json.loads(text)["error"]
        raise self._error(error["code"], error["message"], error["index"], error["token"])

    def _evaluate(self, source: str, file: str) -> int:
        interrupt, seconds = self._timer()
        return self._guard(lambda: self._engine.evaluate(source, file, interrupt, seconds))

    def _timer(self) -> tuple[Callable[[], bool], float]:
        """Time is given token by token, and in total. A token's time is over once the clock and the
        processor both say so: on a busy machine a policy waits without computing."""
        since, used, index = time.monotonic(), time.thread_time(), -2

        def interrupt() -> bool:
            nonlocal since, used, index
            at = self._cells(3)[2]
            if at != index:
                index, since, used = at, time.monotonic(), time.thread_time()
            if time.monotonic() - since <= self._seconds:
                return False
            return time.thread_time() - used > self._seconds

        return interrupt, self._seconds * _CALL_FACTOR

    def _guard(self, run: Callable[[], _T]) -> _T:
        try:
            return run()
        except EngineError as error:
            if error.kind == "threw":
                message = f"threw {error} when it was loaded"
                raise self._error("LS_POLICY_LOAD", message) from None
            why = {
                "interrupted": f"no answer within {self._seconds:g} s: it loops, or needs more "
                f"than {self._megabytes} MiB",
                "exhausted": f"it takes more memory than it may, {self._megabytes} MiB",
                "trapped": "the stack overflowed: unbounded recursion, or data nested too deeply",
            }[error.kind]
            _, _, index, token = self._cells(_HEADER)
            message = f"expected an answer, got none: {why}"
            self._stopped = self._error("LS_POLICY_LIMIT", message, index, token)
            raise self._stopped from None

    def _broken(self) -> LockstepError:
        """What came back is not what the planner's rule gives: a policy broke out of its place."""
        message = "expected cuts within the limits of the segment, got others"
        self._stopped = self._error("LS_POLICY_BROKEN", message)
        return self._stopped

    def _bad_token(self, message: str) -> LockstepError:
        return LockstepError("LS_PLAN_TOKEN", message, _FIXES["LS_PLAN_TOKEN"])

    def _error(self, code: str, message: str, index: int = -1, token: int = -1) -> LockstepError:
        at = f" at token {index} (id {token})" if index >= 0 else ""
        fix = _FIXES.get(code, "Correct the policy, and make the contract again.")
        return LockstepError(code, f"policy {self._name}{at}: {message}", fix)


_Part = tuple[int, int, Sequence[int]]


def _batches(pushes: Sequence[tuple[int, Sequence[int]]]) -> Iterator[list[_Part]]:
    """Split pushes into (index, handle, tokens) lists of at most _CELLS cells."""
    parts: list[_Part] = []
    room = _CELLS
    for index, (handle, tokens) in enumerate(pushes):
        start = 0
        while start < len(tokens):
            if room < 3:
                yield parts
                parts, room = [], _CELLS
            part = tokens[start : start + room - 2]
            parts.append((index, handle, part))
            start, room = start + len(part), room - 2 - len(part)
    if parts:
        yield parts


def _standing(snapshot: str, most: int) -> tuple[int, int]:
    """Where a snapshot stands: (tokens seen, start of the open segment)."""
    try:
        found = json.loads(snapshot)
        position, length = found["position"], found["length"]
        if 0 <= length < most and length <= position:
            return position, position - length
    except (ValueError, KeyError, TypeError):
        pass
    raise LockstepError(
        "LS_PLAN_SNAPSHOT",
        f"expected a snapshot of a segmenter of this contract, got {str(snapshot)[:60]}",
        "Give the text that snapshot() returned under the same contract.",
    )
