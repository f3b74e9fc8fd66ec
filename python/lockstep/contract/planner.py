"""Plans in Python: the cuts of a sequence, whole or token by token (SEMANTICS.md 5).

The rule itself is in ``policy-runtime.v1.js``, which runs here as it does in Node.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import LockstepError
from .policy import PolicyRuntime


class PlannerSource(Protocol):
    """What a planner is made of: ``lockstep.contract.Contract`` is one."""

    @property
    def document(self) -> Mapping[str, Any]: ...

    @property
    def policy_source(self) -> str: ...


class Planner:
    """Plans under one contract; makes the policy's engine ready once. Any thread may call."""

    def __init__(self, contract: PlannerSource, *, seconds: float = 5.0, megabytes: int = 64):
        document = contract.document
        self.runtime = PolicyRuntime(
            contract.policy_source,
            document["tables"],
            document["segment"],
            vocabulary=document["tokenizer"]["size"],
            name=document["policy"]["name"],
            runtime=document["policy"].get("runtime"),
            seconds=seconds,
            megabytes=megabytes,
        )

    def plan(self, ids: Sequence[int]) -> list[int]:
        """Cuts e_i decided after these tokens, ascending. Their end is none of them.

        Raises ``LS_POLICY_*``, ``LS_PLAN_TOKEN`` naming the policy, the token's index and id.
        """
        handle = self.runtime.open()
        try:
            return self.runtime.push(handle, ids)
        finally:
            self.runtime.free(handle)

    def segmenter(self) -> Segmenter:
        """The plan of a new sequence, token by token."""
        return Segmenter(self.runtime, self.runtime.open())

    def restore(self, snapshot: str) -> Segmenter:
        """A segmenter that continues from a snapshot, taken here or in Node."""
        return Segmenter(self.runtime, self.runtime.restore(snapshot))

    def close(self) -> None:
        self.runtime.close()


class Segmenter:
    """The plan of one sequence as its tokens come; made by a Planner."""

    def __init__(self, runtime: PolicyRuntime, handle: int):
        self._runtime, self._handle = runtime, handle

    def push(self, token: int) -> bool:
        """Take one token; True: the segment ends after it."""
        return len(self._runtime.push(self._handle, [token])) == 1

    def push_many(self, tokens: Sequence[int]) -> list[int]:
        """Take tokens; the cuts decided: numbers of tokens of the sequence before each (e_i)."""
        return self._runtime.push(self._handle, tokens)

    def snapshot(self) -> str:
        """JSON from which ``Planner.restore`` continues exactly."""
        return self._runtime.snapshot(self._handle)

    def fork(self) -> Segmenter:
        """A copy of this segmenter, at the same position."""
        return Segmenter(self._runtime, self._runtime.restore(self.snapshot()))

    @property
    def position(self) -> int:
        """Tokens seen."""
        return self._runtime.where(self._handle)[0]

    @property
    def open_length(self) -> int:
        """Tokens in the open segment."""
        return self._runtime.where(self._handle)[1]

    def close(self) -> None:
        """Free the sequence. Idempotent."""
        self._runtime.free(self._handle)


#: Longest piece of a sequence that is pushed in one go, tokens (as in src/planner/interleaved.ts).
_LONGEST = 128


def interleaved_plans(
    contract: PlannerSource, sequences: Sequence[Sequence[int]], first: Planner | None = None
) -> list[list[int]]:
    """Plans of the sequences, taken in turns of a few tokens and in random order, each going back
    and forth between two engines by way of snapshots (counterpart of src/planner/interleaved.ts).

    A policy without memory but its state cuts as it does when each sequence runs alone. ``first``,
    a planner of this contract, becomes one of the two.
    """
    planners = first or Planner(contract), Planner(contract)
    draw = random.Random(20261128)
    running = [planners[0].segmenter() for _ in sequences]
    side, at = [0] * len(sequences), [0] * len(sequences)
    cuts: list[list[int]] = [[] for _ in sequences]
    while left := [i for i, ids in enumerate(sequences) if at[i] < len(ids)]:
        i = draw.choice(left)
        end = at[i] + draw.randint(1, _LONGEST)
        cuts[i] += running[i].push_many(sequences[i][at[i] : end])
        at[i] = end
        if draw.random() < 0.25:
            continue
        side[i] = 1 - side[i]
        before = running[i]
        running[i] = planners[side[i]].restore(before.snapshot())
        before.close()
    return cuts


def push_batch(segmenters: Sequence[Segmenter], tokens: Sequence[Sequence[int]]) -> list[list[int]]:
    """Push tokens of many segmenters of one planner in one call; cuts of each, in order."""
    if not segmenters:
        return []
    runtime = segmenters[0]._runtime
    assert len(segmenters) == len(tokens) and all(one._runtime is runtime for one in segmenters)
    pushes = [(one._handle, ids) for one, ids in zip(segmenters, tokens, strict=True)]
    return runtime.push_many(pushes)


def push_each(
    segmenters: Sequence[Segmenter], tokens: Sequence[Sequence[int]]
) -> list[list[int] | LockstepError]:
    """As `push_batch`, of sequences that have nothing to do with each other: each fails alone."""
    if not segmenters:
        return []
    runtime = segmenters[0]._runtime
    assert len(segmenters) == len(tokens) and all(one._runtime is runtime for one in segmenters)
    return runtime.push_each(
        [(one._handle, ids) for one, ids in zip(segmenters, tokens, strict=True)]
    )


def plan(contract: PlannerSource, ids: Sequence[int]) -> list[int]:
    """Cuts decided after ``ids`` under a contract. For many sequences keep a Planner."""
    planner = Planner(contract)
    try:
        return planner.plan(ids)
    finally:
        planner.close()
