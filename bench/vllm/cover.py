"""A pairwise covering set: every two values of two axes meet in some row."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = dict[str, Any]


def pairwise(
    axes: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool], *, seed: int = 0
) -> list[Row]:
    """Rows that cover every pair of values which some allowed row can hold. Greedy, seeded."""
    names = list(axes)
    everything = [dict(zip(names, row, strict=True)) for row in product(*axes.values())]
    rows = [row for row in everything if allowed(row)]
    random.Random(seed).shuffle(rows)

    def pairs(row: Row) -> set[tuple[Any, ...]]:
        return {(a, row[a], b, row[b]) for a, b in combinations(names, 2)}

    open_pairs = set().union(*map(pairs, rows))
    chosen: list[Row] = []
    while open_pairs:
        best = max(rows, key=lambda row: len(pairs(row) & open_pairs))
        chosen.append(best)
        open_pairs -= pairs(best)
    return chosen
