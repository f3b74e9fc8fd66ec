"""Confidence intervals by a bootstrap over blocks of consecutive tokens.

Losses of neighbouring tokens depend on each other; the mean losses of blocks much less. So blocks,
not tokens, are drawn again (the non-overlapping block bootstrap of Carlstein, 1986). Two rows over
the same tokens are compared on the same draws: what a text makes hard for both cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 2000
LEVEL = 0.95
BLOCK = 128
#: Fewer blocks, or scores, say too little of how much they vary.
LEAST = 8


@dataclass(frozen=True)
class Blocks:
    """Sums [B] of losses in nats and numbers [B] of targets of blocks that no sequence crosses."""

    sums_B: Floats
    counts_B: Floats

    @classmethod
    def of(cls, parts: Sequence[Floats], size: int = BLOCK) -> Blocks:
        """Cut each part (losses of one sequence, in order) into blocks of ``size``."""
        chunks = [part[at : at + size] for part in parts for at in range(0, len(part), size)]
        return cls(
            np.array([float(chunk.sum()) for chunk in chunks], dtype=np.float64),
            np.array([float(len(chunk)) for chunk in chunks], dtype=np.float64),
        )

    @property
    def mean(self) -> float:
        """Nats a target."""
        return float(self.sums_B.sum() / self.counts_B.sum())


@dataclass(frozen=True)
class Estimate:
    """A value with the bounds of its interval; no bounds where there are fewer than `LEAST`."""

    value: float
    low: float | None
    high: float | None

    def as_dict(self, name: str) -> dict[str, float | None]:
        return {name: self.value, "low": self.low, "high": self.high}


def perplexity(blocks: Blocks, seed: int = 0) -> Estimate:
    """exp of the mean loss."""
    draws_DB = _draws(len(blocks.sums_B), seed)
    return _estimate(_exp(blocks.mean), None if draws_DB is None else _means(blocks, draws_DB))


def ratio(a: Blocks, b: Blocks, seed: int = 0) -> Estimate:
    """Perplexity of ``a`` over that of ``b``, both over the same blocks: a paired comparison."""
    assert np.array_equal(a.counts_B, b.counts_B), "rows over other tokens"
    draws_DB = _draws(len(a.sums_B), seed)
    differences = None if draws_DB is None else _means(a, draws_DB) - _means(b, draws_DB)
    return _estimate(_exp(a.mean - b.mean), differences)


def mean(values: Sequence[float], seed: int = 0) -> Estimate:
    """Mean of independent values (scores of samples)."""
    return mean_of_means([values], seed)


def mean_of_means(groups: Sequence[Sequence[float]], seed: int = 0) -> Estimate:
    """Mean of the groups' means (scores of samples, a group a task).

    The tasks are the ones asked for, not drawn from others: samples are drawn again within each.
    """
    groups_N = [np.asarray(group, dtype=np.float64) for group in groups]
    value = float(np.mean([group_N.mean() for group_N in groups_N]))
    if min(map(len, groups_N)) < LEAST:
        return Estimate(value, None, None)
    rng = np.random.default_rng(seed)
    drawn_GD = [
        group_N[rng.integers(0, len(group_N), size=(DRAWS, len(group_N)))].mean(1)
        for group_N in groups_N
    ]
    low, high = _bounds(np.mean(drawn_GD, axis=0))
    return Estimate(value, low, high)


def _draws(count: int, seed: int) -> npt.NDArray[np.int64] | None:
    if count < LEAST:
        return None
    return np.random.default_rng(seed).integers(0, count, size=(DRAWS, count))


def _means(blocks: Blocks, draws_DB: npt.NDArray[np.int64]) -> Floats:
    means: Floats = blocks.sums_B[draws_DB].sum(1) / blocks.counts_B[draws_DB].sum(1)
    return means


def _estimate(value: float, logs_D: Floats | None) -> Estimate:
    if logs_D is None:
        return Estimate(value, None, None)
    low, high = _bounds(logs_D)
    return Estimate(value, _exp(low), _exp(high))


def _bounds(values_D: Floats) -> tuple[float, float]:
    low, high = np.quantile(values_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _exp(nats: float) -> float:
    """A diverged model's loss may be past what a float can hold."""
    return math.exp(min(nats, 700.0))
