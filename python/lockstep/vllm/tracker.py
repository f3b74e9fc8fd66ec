"""Which segment each token of a step belongs to, on the worker.

The model sees rows of a batch, not requests: what a segment needs is found by KV slot, so it lives
and dies with the blocks, through chunked prefill, preemption and prefix-cache hits. The policy's
state of a sequence hangs on the slot of its last token; where a prefix-cache hit brings a sequence
without one, its tokens are read back by slot and planned again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..contract.planner import Planner, PlannerSource
from ..errors import LockstepError
from .layout import own_fault

Array = NDArray[np.int64]

_LOST = "expected a cache that holds all tokens of a prefix-cache hit, got windows alone"


@dataclass(slots=True)
class QuerySpan:
    """Queries [a, b) of one request in this step, all in the segment that starts at ``start``.

    ``flat`` is where query ``a`` stands in the batch; ``closes``: token b - 1 ends the segment.
    """

    row: int
    start: int
    a: int
    b: int
    flat: int
    closes: bool


@dataclass(slots=True)
class _Open:
    """A sequence's policy state after ``position`` tokens; its open segment starts at ``start``.

    ``handle`` None: the policy failed on it. Its request ends, and until then no cut is asked for.
    """

    handle: int | None
    start: int
    position: int


class Tracker:
    """Cuts steps into spans. ``complete``: the slots are those of a cache that keeps all tokens.

    One a worker; called by its one thread.
    """

    def __init__(self, contract: PlannerSource, slots: int, block: int, complete: bool):
        self._runtime = Planner(contract).runtime
        self._most = int(contract.document["segment"]["max"])
        self._block, self._complete = block, complete
        self._token_of = np.zeros(slots, np.int64)
        self._open: dict[int, _Open] = {}

    def cut(
        self,
        block_table_RN: Array,
        slots_T: Array,
        query_start_R: Array,
        lengths_R: Array,
        tokens_T: Array,
    ) -> list[QuerySpan]:
        """Pieces of a step, by row and position. ``lengths_R`` count this step's tokens too.

        A row on whose tokens the policy fails disturbs no other. Raises ``LS_VLLM_STATE`` for a
        prefix-cache hit whose tokens are nowhere.
        """
        edges = query_start_R.tolist()
        rows = [r for r in range(len(edges) - 1) if edges[r + 1] > edges[r]]
        total = edges[-1]
        # Written first: in one step a request may hit blocks that another is only now computing.
        self._token_of[slots_T[:total]] = tokens_T[:total]
        if self._open:
            self._invalidate(slots_T[:total])
        states: list[_Open] = []
        asked: list[_Open] = []
        pushes: list[tuple[int, Sequence[int]]] = []
        for r in rows:
            begin, end = edges[r], edges[r + 1]
            position = int(lengths_R[r]) - (end - begin)
            state, tokens = self._resume(block_table_RN[r], position, tokens_T[begin:end])
            states.append(state)
            if state.handle is not None:
                asked.append(state)
                pushes.append((state.handle, tokens.tolist()))
        found = self._push(asked, pushes)
        spans: list[QuerySpan] = []
        for r, state in zip(rows, states, strict=True):
            begin, end = edges[r], edges[r + 1]
            length = int(lengths_R[r])
            # The scheduler, which runs the same policy, ends a request that failed. What runs of it
            # before is cut where it must be: no segment is longer than the contract's largest.
            ends = found.get(id(state), range(state.start + self._most, length + 1, self._most))
            a = length - (end - begin)
            for cut in ends:
                if cut > a:
                    spans.append(QuerySpan(r, state.start, a, cut, end - (length - a), True))
                    a = cut
                state.start = cut
            if a < length:
                spans.append(QuerySpan(r, state.start, a, length, end - (length - a), False))
            state.position = length
            self._open[int(slots_T[end - 1])] = state
        return spans

    def _resume(self, blocks_N: Array, position: int, tokens_T: Array) -> tuple[_Open, Array]:
        """The state after ``position`` tokens, and what to push: a new one sees all its tokens."""
        state = self._take(blocks_N, position)
        if state is not None:
            return state, tokens_T
        state = _Open(self._runtime.open(), 0, 0)
        if position:
            tokens_T = np.concatenate((self._replay(blocks_N, position), tokens_T))
        return state, tokens_T

    def _push(
        self, states: Sequence[_Open], pushes: Sequence[tuple[int, Sequence[int]]]
    ) -> dict[int, list[int]]:
        """Cuts by the id of the state; none of a state on whose tokens the policy fails."""
        found: dict[int, list[int]] = {}
        for state, cuts in zip(states, self._runtime.push_each(pushes), strict=True):
            if isinstance(cuts, LockstepError):
                own_fault(cuts)
                state.handle = None
            else:
                found[id(state)] = cuts
        return found

    def _slots(self, blocks_N: Array, start: int, end: int) -> Array:
        at = np.arange(start, end)
        return blocks_N[at // self._block] * self._block + at % self._block

    def _take(self, blocks_N: Array, position: int) -> _Open | None:
        """The state after ``position`` tokens; its slot gives it up, since it moves on."""
        if position == 0:
            return None
        slot = int(self._slots(blocks_N, position - 1, position)[0])
        state = self._open.pop(slot, None)
        if state is not None and state.position != position:
            self._free(state)
            return None
        return state

    def _replay(self, blocks_N: Array, position: int) -> Array:
        if not self._complete:
            raise LockstepError(
                "LS_VLLM_STATE", _LOST, "Start vLLM with --no-enable-prefix-caching."
            )
        return self._token_of[self._slots(blocks_N, 0, position)]

    def _invalidate(self, slots_T: Array) -> None:
        """A slot that is overwritten no longer ends the sequence that it ended."""
        if len(slots_T) <= len(self._open):
            stale = [slot for slot in slots_T.tolist() if slot in self._open]
        else:
            written = set(slots_T.tolist())
            stale = [slot for slot in self._open if slot in written]
        for slot in stale:
            self._free(self._open.pop(slot))

    def _free(self, state: _Open) -> None:
        if state.handle is not None:
            self._runtime.free(state.handle)
