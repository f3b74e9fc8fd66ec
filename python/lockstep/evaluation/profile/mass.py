"""Attention mass beyond the window: what full attention looks at and a local head would not see.

For query t of segment [s, e) a local head sees the sinks [0, A), the carry [s - M, s) and its own
segment (SEMANTICS.md 2). The score of a KV head is the share of full attention's probability that
falls on the keys [A, s - M), averaged over its query heads and over all queries with such keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lockstep.operator.contexts import packed_spans
from lockstep.operator.model import Model
from lockstep.operator.rope import rotate

ELEMENTS = 1 << 24  # probabilities alive at once


class MassContext:
    """Full causal attention of one sequence, every probability looked at once."""

    def __init__(self, model: Model, length: int, cuts: Sequence[int]):
        spec, self._layout = model.spec, model.layout
        self._cos_TD, self._sin_TD = model.rope.rows(0, length)
        self._sinks = spec.sinks
        ends = [
            max(spec.sinks, span.start - spec.carry)
            for span in packed_spans(length, cuts)
            for _ in range(span.length)
        ]
        #: for every query the end of the keys [A, end) that a local head would not see
        self._beyond_T = torch.tensor(ends, device=model.device)
        self.queries = int((self._beyond_T > spec.sinks).sum())
        self.mass_LH = torch.zeros(
            len(model.layout.layers), model.layout.kv_heads, dtype=torch.float64
        )

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        H, T, _ = k_HTD.shape
        q_HgTD = rotate(q_HTD, self._cos_TD, self._sin_TD).unflatten(0, (H, -1))
        kr_HTD = rotate(k_HTD, self._cos_TD, self._sin_TD)
        block = max(1, min(T, ELEMENTS // (len(q_HTD) * T)))
        at_T = torch.arange(T, device=q_HTD.device)
        outs = []
        for s in range(0, T, block):
            e = min(T, s + block)
            logits_HgTN = torch.einsum("hgtd,hnd->hgtn", q_HgTD[:, :, s:e], kr_HTD[:, :e]) * scale
            ahead_TN = at_T[:e] > at_T[s:e, None]
            p_HgTN = logits_HgTN.masked_fill_(ahead_TN, -torch.inf).softmax(-1)
            outs.append(torch.einsum("hgtn,hnd->hgtd", p_HgTN, v_HTD[:, :e]))
            beyond_TN = (at_T[:e] >= self._sinks) & (at_T[:e] < self._beyond_T[s:e, None])
            share_H = (p_HgTN * beyond_TN).sum(-1).double().sum((1, 2)) / p_HgTN.shape[1]
            self.mass_LH[layer] += share_H.cpu()
        return torch.cat(outs, 2).flatten(0, 1)


@torch.no_grad()
def measure(model: Model, ids: Any, cuts: Sequence[int]) -> tuple[Tensor, int]:
    """Summed shares [L, H] (float64) of one sequence, and the number of queries they are over."""
    ids_T = torch.as_tensor(ids, device=model.device)
    context = MassContext(model, len(ids_T), cuts)
    model.forward(ids_T, context)
    return context.mass_LH, context.queries
