"""The truncated objective L_K by SEMANTICS section 6: every l_i is a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from oracle.model import Oracle, Spec, segments


def gradient(
    weights: Mapping[str, Tensor],
    config,
    spec: Spec,
    documents: Sequence[tuple[list[int], list[int]]],
    truncation: int,
    targets: int | None = None,
    masks: Sequence[Sequence[bool] | None] | None = None,
) -> tuple[float, int, dict[str, Tensor]]:
    """Sum of losses (nats), number of targets, and d(L_K / targets)/d(weight) for every weight.

    ``targets``: the optimizer step's global number of targets; None takes these documents' own.
    ``masks``: for each document which of its tokens count as targets, None for all.
    """
    leaves = {name: w.detach().double().clone().requires_grad_() for name, w in weights.items()}
    oracle = Oracle(leaves, config, spec)
    total, count = 0.0, 0
    for d, (ids, boundaries) in enumerate(documents):
        mask = masks[d] if masks is not None else None
        _, found, plain = oracle.forward(ids, boundaries)
        by_end = {boundary.at: boundary for boundary in found}
        tiles = segments(boundaries, len(ids))
        for i in range(len(tiles)):
            first = max(0, i - truncation)
            # C_{i-K-1} and every R are constants: the values of the plain forward pass.
            origin = tiles[first][0]
            state = plain.constant(origin, by_end.get(origin))
            logits = torch.zeros(0)
            for start, end in tiles[first : i + 1]:
                used = by_end[end].used if end in by_end else {}
                replace = {(end, layer): rows for layer, rows in used.items()}
                logits = oracle.segment(state, ids[start:end], close=end in by_end, replace=replace)
            start, end = tiles[i]
            loss = torch.zeros((), dtype=torch.float64)
            for t in range(start, end):
                if t + 1 < len(ids) and (mask is None or mask[t + 1]):
                    loss = loss - torch.log_softmax(logits[t - start], dim=0)[ids[t + 1]]
                    count += 1
            if loss.requires_grad:
                loss.backward()
                total += float(loss.detach())
    divisor = count if targets is None else targets
    grads = {
        name: (torch.zeros_like(w) if w.grad is None else w.grad / divisor)
        for name, w in leaves.items()
    }
    return total, count, grads
