"""Hidden states of whole sequences with the exact truncated gradient behind them.

The values are the plain forward pass's. A loss computed from them sends back the gradient of
each row; `tbptt.backward` carries it through the segments, across the contract's K boundaries and
no further (SEMANTICS.md 6). So a trainer that calls ``loss.backward()`` trains as Lockstep's does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lockstep.operator.contexts import PackedSpan
from lockstep.operator.model import Model
from lockstep.training import tbptt

Plan = tuple[Tensor, list[int]]  # ids [T], boundaries


def hidden(
    model: Model, plans: Sequence[Plan], truncation: int, recompute: bool, record: Any
) -> Tensor:
    """Last hidden states [T, E] of the sequences, one behind the other.

    record: ``record.add(tokens)`` is called for each backward pass.
    """
    body = model.module.model
    weights = [p for p in body.parameters() if p.requires_grad]
    if not torch.is_grad_enabled() or not weights:
        return torch.cat(model.hidden_many(plans))
    out: Tensor = _Hidden.apply(model, plans, truncation, recompute, record, *weights)
    return out


class _Hidden(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        model: Model,
        plans: Sequence[Plan],
        truncation: int,
        recompute: bool,
        record: Any,
        *weights: Tensor,
    ) -> Tensor:
        device = model.device.type
        ctx.given = model, plans, truncation, recompute, record
        ctx.autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        # Autograd then refuses a backward pass with weights that were changed meanwhile.
        ctx.save_for_backward(*weights)
        return torch.cat(model.hidden_many(plans))

    @staticmethod
    def backward(ctx: Any, grad_TE: Tensor) -> tuple[Any, ...]:
        model, plans, truncation, recompute, record = ctx.given
        weights = ctx.saved_tensors
        offsets = [0]
        for ids_T, _ in plans:
            offsets.append(offsets[-1] + len(ids_T))

        def score(
            hidden_TE: Tensor, rows: Sequence[tuple[int, PackedSpan]]
        ) -> tuple[float, Tensor]:
            parts = [
                grad_TE[offsets[d] + p.start : offsets[d] + p.start + p.length] for d, p in rows
            ]
            return 0.0, torch.cat(parts).to(hidden_TE.dtype)

        enabled, dtype = ctx.autocast
        with (
            stand_ins(model.module.model, weights) as inputs,
            torch.autocast(model.device.type, dtype=dtype, enabled=enabled),
        ):
            tbptt.backward(
                model, plans, truncation, 1, score=score, inputs=inputs, recompute=recompute
            )
        record.add(offsets[-1])
        return (None, None, None, None, None, *(one.grad for one in inputs))


@contextmanager
def stand_ins(module: nn.Module, weights: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Meanwhile the module computes with leaves that share the weights' memory, so that gradient
    gathers in those, and hooks on the weights (of several processes) see the whole of it once."""
    leaves = [weight.detach().requires_grad_() for weight in weights]
    leaf_of = {weight.data_ptr(): leaf for weight, leaf in zip(weights, leaves, strict=True)}
    places = [
        (part, name, own)
        for part in module.modules()
        for name, own in part._parameters.items()
        if own is not None and own.requires_grad
    ]
    for part, name, own in places:
        part._parameters[name] = leaf_of[own.data_ptr()]  # type: ignore[assignment]
    try:
        yield leaves
    finally:
        for part, name, own in places:
            part._parameters[name] = own
