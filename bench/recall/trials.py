"""Two changes of the operator that no contract has, tried to find what segmented reading loses.

Both keep the rows that `blocks` chooses. "true distances": a retrieved row stands where it was
read, as in full attention (SEMANTICS 3 moves it next to the carry). "means": besides, each block
that was not retrieved stays in view as its mean key and mean value, repeated for every row, which
shows what the mass of all other rows is worth. Neither bounds anything: these are trials, not
recipes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lockstep.operator.rope import Rope, rotate
from lockstep.operator.state import GroupState
from torch import Tensor

TRIALS = ("true distances", "means")


@contextmanager
def trial(name: str | None) -> Iterator[None]:
    """Run every model so while the context lasts; None changes nothing."""
    if name is None:
        yield
        return
    plain = GroupState.retrieve, GroupState.rotated_prefix
    group: Any = GroupState
    group.retrieve = _means if name == "means" else _true
    group.rotated_prefix = _rotated
    try:
        yield
    finally:
        group.retrieve, group.rotated_prefix = plain


_retrieve = GroupState.retrieve
_prefix = GroupState.rotated_prefix


def _true(self: Any, positions_HR: Tensor) -> None:
    _retrieve(self, positions_HR)
    self.behind_HR = self.pool_k.n - positions_HR.clamp_min(0).double()


def _means(self: Any, positions_HR: Tensor) -> None:
    rows, block = self.eligible, self.spec.block
    if rows <= self.spec.retrieval_size:
        return _true(self, positions_HR)
    every = torch.arange(rows).expand(len(positions_HR), -1)
    _true(self, every)
    kept_HN = torch.zeros(every.shape, dtype=torch.bool)
    for kept_N, positions_R in zip(kept_HN, positions_HR, strict=True):
        kept_N[positions_R[positions_R >= 0]] = True
    for start in range(0, rows, block):
        own = slice(start, min(rows, start + block))
        rest_H = ~kept_HN[:, start]
        for held in (self.retrieved_k, self.retrieved_v):
            held[rest_H, own] = held[rest_H, own].mean(1, keepdim=True)


def _rotated(self: Any, rope: Rope, base: int) -> tuple[Tensor, Tensor]:
    sinks, retrieved, carry = (x.shape[1] for x in (self.sink_k, self.retrieved_k, self.carry_k))
    # Where heads retrieved unlike numbers of rows, some of them stand in front of the others.
    if not retrieved or self.ragged is not None:
        return _prefix(self, rope, base)
    k_HpD, v_HpD = self.prefix()
    end = self.pool_k.n + sinks
    at_HR = base - self.behind_HR
    fixed = torch.arange(sinks).double() - end + base, torch.arange(carry).double() - carry + base
    first_HA, last_HM = (one.expand(len(at_HR), -1) for one in fixed)
    return rotate(k_HpD, *rope.at(torch.cat([first_HA, at_HR, last_HM], 1))), v_HpD
