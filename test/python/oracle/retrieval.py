"""Retrieval by SEMANTICS section 4, one Python loop for every "each" of the text.

float32 input: means are float64 sums in order, rounded to float32; a score is the float64 sum in
order over d of float32 products, rounded to float32. float64 input: the same without rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def ordered_mean(rows_ND: Array) -> Array:
    """Mean of N rows: float64 sum in order, divided by N, rounded to the rows' type. -> [D]"""
    total_D = np.zeros(rows_ND.shape[1], dtype=np.float64)
    for row_D in rows_ND:
        total_D = total_D + row_D.astype(np.float64)
    return (total_D / len(rows_ND)).astype(rows_ND.dtype)


def query_vectors(queries_QD: Array) -> list[Array]:
    """Recipe anchors: full windows of 8 at stride 4 (or the one mean of all), then the last 4."""
    count = len(queries_QD)
    if count < 8:
        vectors = [ordered_mean(queries_QD)]
    else:
        vectors = [ordered_mean(queries_QD[at : at + 8]) for at in range(0, count - 7, 4)]
    if count >= 4:
        vectors.append(ordered_mean(queries_QD[count - 4 :]))
    return vectors


def scores(query_D: Array, keys_ND: Array) -> list[tuple[int, float]]:
    """(position, score) of every key; the type of the inputs decides the rounding."""
    total_N = np.zeros(len(keys_ND), dtype=np.float64)
    for d in range(len(query_D)):  # float64 sum in order over d of products in the inputs' type
        total_N = total_N + (query_D[d] * keys_ND[:, d]).astype(np.float64)
    return list(enumerate(total_N.astype(query_D.dtype).tolist()))


def best(scored: Sequence[tuple[int, float]], count: int) -> list[tuple[int, float]]:
    """The ``count`` best (position, score); equal scores go to the lower position."""
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:count]


def select_head(queries_QD: Array, keys_ND: Array, size: int, recipe: str) -> list[int]:
    """Pool positions, ascending, that one KV head retrieves."""
    assert queries_QD.dtype == keys_ND.dtype and queries_QD.dtype in (np.float32, np.float64)
    pool = len(keys_ND)
    if pool <= size:
        return list(range(pool))
    if recipe == "topk":
        return sorted(n for n, _ in best(scores(queries_QD[-1], keys_ND), size))
    assert recipe == "anchors"
    candidates: dict[int, float] = {}
    for vector_D in query_vectors(queries_QD):
        for n, value in best(scores(vector_D, keys_ND), min(16, pool)):
            candidates[n] = max(value, candidates.get(n, value))
    taken: set[int] = set()
    for anchor, _ in best(list(candidates.items()), size // 8):
        for neighbour in range(anchor - 3, anchor + 5):
            taken.add(min(max(neighbour, 0), pool - 1))
    earliest = 0
    while len(taken) < size:
        taken.add(earliest)
        earliest += 1
    return sorted(taken)


def select(queries_HQD: Array, keys_HND: Array, size: int, recipe: str) -> list[list[int]]:
    """Pool positions for every head: queries [H, Q, D] are group means, keys [H, N, D] are raw."""
    return [
        select_head(queries_QD, keys_ND, size, recipe)
        for queries_QD, keys_ND in zip(queries_HQD, keys_HND, strict=True)
    ]


# Recipe blocks.


def block_masses(logits_rN: Array, block: int) -> list[float]:
    """Attention mass of every block of rows, from one row of logits a query and query head."""
    rows = logits_rN.shape[1]
    mass_N = np.zeros(rows, dtype=np.float64)
    for logits_N in logits_rN.astype(np.float64):
        weights_N = np.exp(logits_N - logits_N.max())
        mass_N += weights_N / weights_N.sum()
    return [float(mass_N[at : at + block].sum()) for at in range(0, rows, block)]


def choose_blocks(masses: Sequence[float], rows: int, size: int, block: int) -> list[int]:
    """The rows of the floor(R / B) heaviest blocks, in order; all rows where they are at most R."""
    if rows <= size:
        return list(range(rows))
    taken = [number for number, _ in best(list(enumerate(masses)), size // block)]
    return [n for number in sorted(taken) for n in range(rows)[number * block :][:block]]


def select_blocks(logits_rN: Array, size: int, block: int) -> list[int]:
    """Pool positions, ascending, that one KV head retrieves."""
    rows = logits_rN.shape[1]
    masses = block_masses(logits_rN, block) if rows else []
    return choose_blocks(masses, rows, size, block)
