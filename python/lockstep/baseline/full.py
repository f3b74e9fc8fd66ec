"""Stock full attention of the same weights, to compare with: transformers' own rotary and SDPA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..operator import lm_head
from ..operator.checks import check_ids
from ..operator.lm_head import Loss
from ..operator.model import Model
from ..operator.recompute import recomputed


def _body(
    model: Model, ids_T: Tensor, recompute: bool = False, cache: DynamicCache | None = None
) -> Tensor:
    body = model.module.model

    @contextmanager
    def stock() -> Iterator[None]:
        before, model.config._attn_implementation = model.config._attn_implementation, "sdpa"
        try:
            yield
        finally:
            model.config._attn_implementation = before

    with stock(), recomputed(body.layers, stock) if recompute else nullcontext():
        out = body(input_ids=ids_T[None], past_key_values=cache, use_cache=cache is not None)
        return out.last_hidden_state[0]


@torch.no_grad()
def hidden(model: Model, ids: Any, cache: DynamicCache | None = None) -> Tensor:
    """Last hidden states [T, E]. ``cache`` is filled with keys and values, as by a prefill."""
    ids_T = check_ids(ids, model.vocabulary, model.device)
    if not len(ids_T):
        return torch.empty(0, model.config.hidden_size, dtype=model.dtype, device=model.device)
    return _body(model, ids_T, cache=cache)


@torch.no_grad()
def logits(model: Model, ids: Any) -> Tensor:
    """Logits [T, V] in float32, or float64 for a float64 model."""
    return lm_head.logits(model.head, hidden(model, ids))


@torch.no_grad()
def nll(model: Model, ids: Any, cache: DynamicCache | None = None) -> Tensor:
    """-log p(x_{t+1}) in float64 nats, [T - 1]; no [T, V] is kept. ``cache``: as in `hidden`."""
    ids_T = check_ids(ids, model.vocabulary, model.device)
    return lm_head.nll(model.head, hidden(model, ids_T, cache)[:-1], ids_T[1:])


def backward(
    model: Model,
    docs: Sequence[Any],
    targets: int | None = None,
    *,
    masks: Sequence[Any] | None = None,
    recompute: bool = False,
    passes: int | None = None,
    scales: Sequence[float] | None = None,
) -> Loss:
    """Add the gradient of ordinary full-attention training to ``.grad``, a document at a time.

    ``docs`` are token ids, or (ids, boundaries) pairs whose boundaries are ignored. The same loss,
    scale and chunked head as `tbptt.backward`, so that the two compare on equal terms; so are
    ``masks``, ``recompute``, ``scales`` and ``passes`` (forward passes that every process makes,
    each with its backward).
    """
    sequences = [
        check_ids(doc[0] if isinstance(doc, tuple) else doc, model.vocabulary, model.device)
        for doc in docs
    ]
    pairs = list(zip(sequences, lm_head.wanted(sequences, masks), strict=True))
    count = sum(int((targets_T >= 0).sum()) for _, targets_T in pairs)
    if not count and not passes:
        return Loss(0.0, 0)
    scale = 1.0 / (count if targets is None else targets)
    params = (
        None if passes is not None else [p for p in model.module.parameters() if p.requires_grad]
    )
    total = 0.0
    factors = [scale] * len(pairs) if scales is None else scales
    work = [(*pair, one) for pair, one in zip(pairs, factors, strict=True) if len(pair[0]) > 1]
    # One token has no target: a pass that adds nothing.
    one_T = torch.zeros(1, dtype=torch.int64, device=model.device)
    work += [(one_T, one_T - 1, scale)] * ((passes or 0) - len(work))
    for ids_T, targets_T, factor in work:
        with torch.enable_grad():
            hidden_TE = _body(model, ids_T, recompute)
        nll_sum, grad_TE = lm_head.backward(model.head, hidden_TE.detach(), targets_T, factor)
        total += nll_sum
        # Where the output head alone is trained, it has its gradient.
        if hidden_TE.requires_grad:
            torch.autograd.backward([hidden_TE], [grad_TE], inputs=params)
    return Loss(total, count)
