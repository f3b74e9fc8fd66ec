"""The segments of running requests, as the contract's policy cuts them (SEMANTICS.md 5).

One object a process: the scheduler has one, every worker has one. All are told the same token ids
and run the same policy.js, so they agree without a word between them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

from ..contract.planner import Planner, PlannerSource, Segmenter, push_each
from ..errors import LockstepError

#: What one sequence can do wrong; anything else stops the runtime for all.
_OWN_FAULTS = frozenset(
    (
        "LS_PLAN_TOKEN",
        "LS_POLICY_THREW",
        "LS_POLICY_RESULT",
        "LS_POLICY_FORBIDDEN",
        "LS_POLICY_MEMORY",
        "LS_POLICY_STATE",
    )
)


class _Sequence:
    __slots__ = ("ends", "last", "seen", "segmenter")

    def __init__(self, segmenter: Segmenter):
        self.segmenter, self.seen, self.last = segmenter, 0, -1
        self.ends: list[int] = []


class SegmentLayout:
    """Segment ends of requests by request id; any thread may call, one at a time.

    ``failed`` holds the error of each request on whose tokens the policy failed: it gets no
    further cuts, and the scheduler should end it. A policy that loops or takes too much
    memory raises instead (``LS_POLICY_LIMIT``): nothing can be planned after that.
    """

    def __init__(self, contract: PlannerSource):
        self._planner = Planner(contract)
        self._sequences: dict[str, _Sequence] = {}
        self._pid = os.getpid()
        self.failed: dict[str, LockstepError] = {}

    def advance(self, known: Iterable[tuple[str, Sequence[int]]]) -> None:
        """Take the token ids that requests have so far, position 0 first; one call for them all.

        Only ids that were not seen before are pushed. A request that is new here, or comes back
        with other tokens, is planned from its first token.
        """
        if self._pid != os.getpid():
            # A fork leaves the policy's states behind, and numbers new ones from 1 again.
            self._pid = os.getpid()
            self._sequences.clear()
        fresh: list[tuple[str, _Sequence, Sequence[int]]] = []
        for key, ids in known:
            sequence = self._sequences.get(key)
            count = len(ids)
            if sequence is not None:
                seen = sequence.seen
                if count == seen and (not seen or ids[-1] == sequence.last):
                    continue
                if key in self.failed:
                    continue
                if count < seen or (seen and ids[seen - 1] != sequence.last):
                    self.forget([key])
                    sequence = None
            if sequence is None:
                sequence = self._sequences[key] = _Sequence(self._planner.segmenter())
            fresh.append((key, sequence, _plain(ids[sequence.seen : count])))
        if not fresh:
            return
        cuts = push_each([one[1].segmenter for one in fresh], [one[2] for one in fresh])
        for (key, sequence, tokens), ends in zip(fresh, cuts, strict=True):
            if isinstance(ends, LockstepError):
                self.failed[key] = own_fault(ends)
            else:
                sequence.ends += ends
            sequence.seen += len(tokens)
            if tokens:
                sequence.last = tokens[-1]

    def ends(self, key: str) -> list[int]:
        """Cuts e_i decided so far, ascending; not to be changed. Empty for an unknown request."""
        sequence = self._sequences.get(key)
        return [] if sequence is None else sequence.ends

    def segment(self, key: str, position: int) -> tuple[int, int | None]:
        """[start, end) of the segment that token ``position`` belongs to; end None: still open."""
        ends = self.ends(key)
        at = bisect_right(ends, position)
        return ends[at - 1] if at else 0, ends[at] if at < len(ends) else None

    def seen(self, key: str) -> int:
        """How many tokens of the request have been pushed."""
        sequence = self._sequences.get(key)
        return 0 if sequence is None else sequence.seen

    def forget(self, keys: Iterable[str]) -> None:
        """Drop finished requests. Idempotent."""
        for key in keys:
            self.failed.pop(key, None)
            sequence = self._sequences.pop(key, None)
            if sequence is not None:
                sequence.segmenter.close()

    def __len__(self) -> int:
        return len(self._sequences)

    def close(self) -> None:
        self._sequences.clear()
        self._planner.close()


def own_fault(error: LockstepError) -> LockstepError:
    """Return an error that concerns one sequence only; raise one that concerns all of them."""
    if error.code not in _OWN_FAULTS:
        raise error
    return error


def _plain(ids: Any) -> Sequence[int]:
    """A slice as plain integers: numpy's and torch's own cost a microsecond each to convert."""
    return ids.tolist() if hasattr(ids, "tolist") else ids
