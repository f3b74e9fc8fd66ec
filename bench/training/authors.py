"""The scheme of the paper's authors for the same gradient (K = 1), to compare with.

For each segment's loss the segment before it is run again, with its graph, from the carry held
constant in front of it: two forward and two backward passes a segment (about 6F for the forward
cost F, where `tbptt.backward` takes 4F). The gradient is that of L_1, which a test shows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lockstep import tbptt
from lockstep.operator import lm_head
from lockstep.operator.contexts import PackedSpan, TrainContext, packed_spans
from lockstep.operator.model import Model
from lockstep.operator.state import State
from torch import Tensor


def backward(model: Model, ids: Sequence[int], cuts: Sequence[int] | None = None) -> tbptt.Loss:
    """Add the gradient of L_1 / targets of one document to the parameters' ``.grad``."""
    ids_T, boundaries = model._sequence(ids, cuts)
    plan = packed_spans(len(ids_T), boundaries)
    (wanted_T,) = lm_head.wanted([ids_T])
    count = max(1, len(ids_T) - 1)
    params = [p for p in model.module.parameters() if p.requires_grad]
    before, total = model.state(), 0.0  # the state in front of the segment before
    for i, span in enumerate(plan):
        state, after = before.fork(), None
        with torch.enable_grad():
            if i:
                _run(model, ids_T, plan[i - 1], state, roll=True)
                after = state.fork()
                tbptt._cut([after], 0)
            hidden_TE = _run(model, ids_T, span, state, roll=False)
        targets_T = wanted_T[span.start : span.start + span.length]
        nll, grad_TE = lm_head.backward(model.head, hidden_TE.detach(), targets_T, 1.0 / count)
        total += nll
        torch.autograd.backward([hidden_TE], [grad_TE], inputs=params)
        before = before if after is None else after
    return tbptt.Loss(total, count)


def _run(model: Model, ids_T: Tensor, span: PackedSpan, state: State, *, roll: bool) -> Tensor:
    packed = [PackedSpan(0, span.length, span.start)]
    context = TrainContext(model.layout, model.spec, model.rope, packed, [state])
    hidden_TE = model.forward(ids_T[span.start : span.start + span.length], context)
    if roll:
        context.cross_boundary(0)
    context.release()
    return hidden_TE
