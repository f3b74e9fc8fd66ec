"""Which pool rows the next segment sees (SEMANTICS.md 4): the recipes `anchors` and `topk`, and
`blocks` by way of blocks.py."""

from __future__ import annotations

import torch
from torch import Tensor

from .blocks import heaviest, masses
from .scores import best, mean, working

RECENT = 64  # queries that the anchors recipe looks back on
WINDOW, STRIDE, TAIL = 8, 4, 4  # its query vectors
KEYS_PER_QUERY = 16  # its candidates per query vector
BEFORE, AFTER = 3, 4  # an anchor a brings a-3 .. a+4
SPAN = BEFORE + 1 + AFTER


def recent(recipe: str, window: int = 1) -> int:
    """How many of a segment's last queries a recipe reads; `blocks` its ``window``."""
    return {"anchors": RECENT, "topk": 1, "blocks": window}[recipe]


def select(queries_HQD: Tensor, keys_HND: Tensor, size: int, recipe: str, block: int = 0) -> Tensor:
    """Pool positions retrieved per head, int64 [H, R'], ascending, R' = min(size, N).

    ``queries_HQD`` are the group means of the segment's last min(64, length) raw queries, in order;
    for `blocks` the queries [H, g, Q, D] that `at_distance` made of the last W. ``keys_HND`` are
    the raw keys of the pool's eligible rows. float64 inputs stay float64 throughout. With `blocks`
    a head may have fewer rows than the others; then -1 fills its front.
    """
    H, N, _ = keys_HND.shape
    if size >= N:
        return torch.arange(N, device=keys_HND.device).expand(H, N).contiguous()
    if size == 0:
        return torch.empty(H, 0, dtype=torch.int64, device=keys_HND.device)
    if recipe == "blocks":
        return heaviest(masses(queries_HQD, keys_HND, block), N, size, block)
    queries_HQD, keys_HND = working(queries_HQD), working(keys_HND)
    if recipe == "topk":
        return best(queries_HQD[:, -1:], keys_HND, size)[0][:, 0].sort(-1).values
    vectors_HQD = query_vectors(queries_HQD)
    keys_HQk, scores_HQk = best(vectors_HQD, keys_HND, min(KEYS_PER_QUERY, N))
    return torch.stack(
        [
            expand(_anchors(keys_HQk[h].flatten(), scores_HQk[h].flatten(), size // SPAN), N, size)
            for h in range(H)
        ]
    )


def query_vectors(queries_HQD: Tensor) -> Tensor:
    """Query vectors of `anchors`: means of full windows of 8 at stride 4, then of the last 4."""
    Q = queries_HQD.shape[1]
    if Q < WINDOW:
        vectors = [mean(queries_HQD, 1)]
    else:
        vectors = [
            mean(queries_HQD[:, s : s + WINDOW], 1) for s in range(0, Q - WINDOW + 1, STRIDE)
        ]
    if Q >= TAIL:
        vectors.append(mean(queries_HQD[:, Q - TAIL :], 1))
    return torch.stack(vectors, 1)


def neighbourhood(anchors_a: Tensor, N: int) -> Tensor:
    """The positions that anchors bring, clamped to the pool: [a] -> [a, 8]."""
    offsets = torch.arange(-BEFORE, AFTER + 1, device=anchors_a.device)
    return (anchors_a[:, None] + offsets).clamp_(0, N - 1)


def expand(anchors_a: Tensor, N: int, size: int) -> Tensor:
    """The anchors' neighbourhoods, filled up with the earliest others: ascending [size]."""
    selected_N = torch.zeros(N, dtype=torch.bool, device=anchors_a.device)
    selected_N[neighbourhood(anchors_a, N).flatten()] = True
    missing = size - int(selected_N.sum())
    # Of the first `size` positions at most `size - missing` are selected, so enough are free.
    free = (~selected_N[:size]).nonzero()[:missing, 0]
    selected_N[free] = True
    return selected_N.nonzero()[:, 0]


def _anchors(keys_c: Tensor, scores_c: Tensor, count: int) -> Tensor:
    """The ``count`` best distinct keys of a candidate list, each with its best score."""
    order = torch.sort(keys_c, stable=True).indices
    keys_c, scores_c = keys_c[order], scores_c[order]
    order = torch.sort(scores_c, descending=True, stable=True).indices
    selected: dict[int, None] = {}
    for key in keys_c[order].tolist():
        if len(selected) == count:
            break
        selected.setdefault(key)
    return torch.tensor(list(selected), dtype=torch.int64, device=keys_c.device)
