"""From scores to a choice: N long KV heads in exactly n layers, of the greatest total score.

Layer 0 is no candidate: its keys know no context, so every repetition of a token ties, and
retrieval would take the earliest ones (SEMANTICS.md 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lockstep.errors import LockstepError

Long = list[list[int]]
FIRST = 1  # the first layer that may retrieve


def check(layers: int, kv_heads: int, want_heads: int, want_layers: int | None) -> None:
    """Refuse counts that the model cannot give (``LS_PROFILE_LAYERS``, ``LS_PROFILE_HEADS``)."""
    if want_layers is None:
        most = (layers - FIRST) * kv_heads
        if not 1 <= want_heads <= most:
            raise LockstepError(
                "LS_PROFILE_HEADS",
                f"expected 1 to {most} heads (layer 0 never retrieves), got {want_heads}",
                "Give another --heads.",
                "heads",
            )
        return
    if not 1 <= want_layers <= layers - FIRST:
        raise LockstepError(
            "LS_PROFILE_LAYERS",
            f"expected 1 to {layers - FIRST} layers (layer 0 never retrieves), got {want_layers}",
            "Give another --layers.",
            "layers",
        )
    if not want_layers <= want_heads <= want_layers * kv_heads:
        raise LockstepError(
            "LS_PROFILE_HEADS",
            f"expected {want_layers} to {want_layers * kv_heads} heads, one at least in each of "
            f"{want_layers} layers of {kv_heads} KV heads, got {want_heads}",
            "Give another --heads or --layers.",
            "heads",
        )


def best(scores_LH: Sequence[Sequence[float]], want_heads: int, want_layers: int | None) -> Long:
    """For every layer its long heads, sorted: the greatest sum of scores that the counts allow.

    Exactly ``want_layers`` layers have long heads, together ``want_heads``; None: as many layers as
    it takes. Of equal sums the one with heads in earlier layers wins, in a layer the lower head.
    """
    L, H = len(scores_LH), len(scores_LH[0])
    check(L, H, want_heads, want_layers)
    if want_layers is None:
        return _highest(scores_LH, want_heads)
    order = [sorted(range(H), key=lambda h, row=row: (-row[h], h)) for row in scores_LH]  # type: ignore[misc]
    # total[n, k]: the greatest sum with k heads in n of the layers so far.
    total = np.full((want_layers + 1, want_heads + 1), -np.inf)
    total[0, 0] = 0.0
    taken = np.zeros((L, want_layers + 1, want_heads + 1), dtype=np.int64)
    for layer in range(FIRST, L):
        sums = np.cumsum([scores_LH[layer][h] for h in order[layer]])
        grown = total.copy()
        for count in range(1, min(H, want_heads) + 1):
            with_it = np.full_like(total, -np.inf)
            with_it[1:, count:] = total[:-1, : want_heads + 1 - count] + sums[count - 1]
            better = with_it > grown
            grown[better] = with_it[better]
            taken[layer][better] = count
        total = grown
    long: Long = [[] for _ in range(L)]
    n, k = want_layers, want_heads
    for layer in range(L - 1, FIRST - 1, -1):
        count = int(taken[layer, n, k])
        if count:
            long[layer] = sorted(order[layer][:count])
            n, k = n - 1, k - count
    return long


def _highest(scores_LH: Sequence[Sequence[float]], want_heads: int) -> Long:
    """The heads of the highest scores, whatever their layers."""
    L, H = len(scores_LH), len(scores_LH[0])
    places = [(layer, h) for layer in range(FIRST, L) for h in range(H)]
    places.sort(key=lambda at: (-scores_LH[at[0]][at[1]], at))
    long: Long = [[] for _ in range(L)]
    for layer, h in sorted(places[:want_heads]):
        long[layer].append(h)
    return long


def mixed(*scores: Sequence[Sequence[float]]) -> list[list[float]]:
    """One score made of several: the best rank that a head has in any of them (1: first).

    Ranks are used because the scores have different scales. Equal scores share the higher rank.
    """
    L, H = len(scores[0]), len(scores[0][0])
    found = [[0.0] * H for _ in range(L)]
    for one in scores:
        flat = sorted((x for row in one[FIRST:] for x in row), reverse=True)
        for layer in range(FIRST, L):
            for h in range(H):
                rank = 1 - flat.index(one[layer][h]) / len(flat)
                found[layer][h] = max(found[layer][h], rank)
    return found


def first(layers: int, kv_heads: int, want_heads: int, want_layers: int) -> Long:
    """The first layers that may retrieve, layer 1 and up."""
    check(layers, kv_heads, want_heads, want_layers)
    return _spread(layers, [FIRST + i for i in range(want_layers)], want_heads)


def even(layers: int, kv_heads: int, want_heads: int, want_layers: int) -> Long:
    """Layers evenly spaced: the middle of each of ``want_layers`` equal parts of the model."""
    check(layers, kv_heads, want_heads, want_layers)
    room = layers - FIRST
    chosen = [FIRST + (2 * i + 1) * room // (2 * want_layers) for i in range(want_layers)]
    return _spread(layers, chosen, want_heads)


def _spread(layers: int, chosen: Sequence[int], want_heads: int) -> Long:
    """The lowest heads of the chosen layers, as many in each; what is left over goes first."""
    each, over = divmod(want_heads, len(chosen))
    long: Long = [[] for _ in range(layers)]
    for i, layer in enumerate(chosen):
        long[layer] = list(range(each + (i < over)))
    return long
