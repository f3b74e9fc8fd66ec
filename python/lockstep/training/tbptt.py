"""Exact gradient of the truncated objective L_K (SEMANTICS.md 6) with K + 1 segment graphs alive.

L_K = sum_i l_i, where l_i reaches back through the boundaries i-1 .. i-K. Every segment runs
forward once. Its carried-in rows (carry, and the sinks of heads that carry) are leaves, so the
gradient of l_i in them is one input-only vector-Jacobian product, handed from segment to segment
K - 1 more times. What segment j's carried-out rows gather from l_{j+1} .. l_{j+K} joins its own
loss in one full backward pass, after which its graph is freed. K = 1 costs 4/3 of K = 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import LockstepError
from ..operator import lm_head
from ..operator.contexts import PackedSpan, TrainContext, packed_spans
from ..operator.lm_head import Loss
from ..operator.model import Model
from ..operator.state import State
from .segment_passes import segment_passes

Grads = list[Tensor | None]
# The segments of a pass: (document, its segment) in order.
Rows = Sequence[tuple[int, PackedSpan]]
# (last hidden states of a pass [T, E], its segments) -> loss, gradient [T, E].
Score = Callable[[Tensor, Rows], tuple[float, Tensor]]


@dataclass
class _Live:
    """The graph of one step: a segment of each document that has one."""

    hidden_TE: Tensor
    grad_TE: Tensor
    leaves: list[Tensor]
    silent: bool = False  # no loss of its own, and passes need not be alike
    outs: list[Tensor] = field(default_factory=list)
    tail: Grads = field(default_factory=list)


def backward(
    model: Model,
    docs: Sequence[tuple[Any, Sequence[int] | None]],
    truncation: int,
    targets: int | None = None,
    *,
    score: Score | None = None,
    inputs: Sequence[Tensor] | None = None,
    masks: Sequence[Any] | None = None,
    most: int | None = None,
    recompute: bool = False,
    passes: int | None = None,
    scales: Sequence[float] | None = None,
    shared: Sequence[tuple[int, int] | None] | None = None,
) -> Loss:
    """Add the gradient of L_K / targets over the documents to the parameters' ``.grad``.

    ``docs`` are (ids, boundaries) pairs, run together without padding; ``boundaries`` None means
    ``model.plan(ids)``. ``targets`` is the optimizer step's global number of targets; None takes
    these documents' own. The last position of a document has no target. Memory grows with K and
    the longest segments, not with their number, the pool aside.

    ``masks`` says for each document which of its tokens count as targets (a bool each, or None for
    all): the others add nothing to the loss, and are seen as before. ``most`` is the largest number
    of tokens in a pass: many short documents then take turns (`document_starts`), each with a state
    of its own from its position 0. Neither changes what is computed for a document.

    ``score`` puts another loss l_i in the place of the next-token loss (it sees hidden states
    without their graph, and returns the gradient already scaled); ``inputs`` are the tensors that
    gather gradient, instead of the module's trainable parameters.

    ``recompute`` keeps one row of hidden states a layer of a segment instead of all activations,
    and computes them again in each backward pass (activation checkpointing).

    ``passes`` is for weights that are sharded over processes (FSDP), where every process must make
    the same forward and backward passes, whatever its documents: this many segment steps are made,
    at least as many as these documents have. A document of one-token segments without a target
    is added, so a process can run steps after its own documents have ended, or without any.

    ``scales`` are factors of each document's loss, in the place of 1 / targets. ``shared``: a
    document may begin with the segments of an earlier one, (which, how many); they run once, and
    the state is forked behind them. None of the shared segments may hold a target that
    counts, and the earlier document must continue after them.
    """
    _check_truncation(truncation)
    sequences = [model._sequence(ids, cuts) for ids, cuts in docs]
    plans = [packed_spans(len(ids_T), cuts) for ids_T, cuts in sequences]
    tokens = [ids_T for ids_T, _ in sequences]
    wanted = lm_head.wanted(tokens, masks)
    count = sum(int((targets_T >= 0).sum()) for targets_T in wanted)
    # Another loss may be one of a document's last position, too.
    if not (passes or count or (score and tokens)):
        return Loss(0.0, 0)
    scale = 1.0 / (max(1, count) if targets is None else targets)
    params: Sequence[Tensor] | None = inputs
    filler: list[PackedSpan] | None = None
    if passes is not None:
        # Gradients gather in the gathered weights, which are no parameters of the module.
        params = None
        filler = packed_spans(passes, range(1, passes))
        tokens.append(torch.zeros(passes, dtype=torch.int64, device=model.device))
        wanted.append(torch.full_like(tokens[-1], -1))
    elif inputs is None:
        params = [p for p in model.module.parameters() if p.requires_grad]
    order = segment_passes(plans, shared, most, filler)
    states: dict[int, State] = {}
    live: deque[_Live] = deque()
    leaves: list[Tensor] = []
    total = 0.0
    for i in range(len(order)):
        rows = order.segments(i)
        states.update({d: model.state() for d in order.new(i)})
        ids_T = _together(tokens, rows)
        targets_T = _together(wanted, rows)
        with torch.enable_grad():
            hidden_TE, context = _forward(model, ids_T, rows, states, recompute)
            if score is None:
                factor: float | Tensor = scale
                if scales is not None:
                    factor = _factors(scales, rows, model.device)
                nll, grad_TE = lm_head.backward(model.head, hidden_TE.detach(), targets_T, factor)
            else:
                nll, grad_TE = score(hidden_TE.detach(), rows)
            total += nll
            silent = passes is None and score is None and bool((targets_T < 0).all())
            step = _Live(hidden_TE, grad_TE, leaves, silent)
            on = [d for d, _ in rows if order.goes_on(d, i)]
            for n, (d, _) in enumerate(rows):
                if d in on:
                    context.cross_boundary(n)
            context.release()
        del context, hidden_TE, grad_TE
        live.append(step)
        _reach_back(live, truncation, passes is not None)
        states = {d: states[d] for d in on}
        step.outs, leaves = _cut(list(states.values()), truncation)
        step.tail = [None] * len(step.outs)
        for d, origin in order.forks(i + 1):
            # The same leaves: what both go on to gather in them is summed.
            states[d] = states[origin].fork()
        if len(live) == truncation + 1:
            _flush(live.popleft(), params)
    while live:
        _flush(live.popleft(), params)
    return Loss(total, count)


def _check_truncation(truncation: int) -> None:
    if isinstance(truncation, bool) or not isinstance(truncation, int) or truncation < 0:
        raise LockstepError(
            "LS_TRAINING_TRUNCATION",
            f"expected truncation >= 0, got {truncation!r}",
            "Correct training.truncation in lockstep.config.ts.",
            "training.truncation",
        )


def _together(of_documents: Sequence[Tensor], rows: Rows) -> Tensor:
    """What the documents' tensors hold for these segments, one behind the other, [T]."""
    return torch.cat([of_documents[d][p.start : p.start + p.length] for d, p in rows])


def _forward(
    model: Model, ids_T: Tensor, rows: Rows, states: dict[int, State], recompute: bool
) -> tuple[Tensor, TrainContext]:
    """The last hidden states of a pass [T, E], and what the boundaries behind it need."""
    context = TrainContext(
        model.layout,
        model.spec,
        model.rope,
        _packed([span for _, span in rows]),
        [states[d] for d, _ in rows],
        recompute,
    )
    return model.forward(ids_T, context), context


def _packed(segments: Sequence[PackedSpan]) -> list[PackedSpan]:
    spans, offset = [], 0
    for span in segments:
        spans.append(PackedSpan(offset, span.length, span.start))
        offset += span.length
    return spans


def _factors(scales: Sequence[float], rows: Rows, device: torch.device) -> Tensor:
    """The factor of each token's loss, [T]: that of its document."""
    rows_T = torch.tensor([p.length for _, p in rows], device=device)
    own = torch.tensor([scales[d] for d, _ in rows], dtype=torch.float64)
    return own.to(device).repeat_interleave(rows_T)


def _reach_back(live: deque[_Live], truncation: int, from_top: bool) -> None:
    """Send the newest segment's loss back through up to K boundaries into the tails behind it.

    from_top: start every pass at the hidden states, with zeros where no gradient reaches them:
    sharded weights are gathered by hooks on the layers' outputs.
    """
    newest = live[-1]
    if not truncation or not newest.leaves or newest.silent:
        return
    grads: Grads = list(
        torch.autograd.grad(
            newest.hidden_TE, newest.leaves, newest.grad_TE, retain_graph=True, allow_unused=True
        )
    )
    for k in range(1, min(truncation, len(live) - 1) + 1):
        step = live[-1 - k]
        step.tail = [
            b if a is None else a if b is None else a + b
            for a, b in zip(step.tail, grads, strict=True)
        ]
        if k == truncation or not step.leaves:
            return
        outs, cotangents = _known(step.outs, grads)
        if not outs:
            return
        if from_top:
            outs.append(step.hidden_TE)
            cotangents.append(torch.zeros_like(step.hidden_TE))
        grads = list(
            torch.autograd.grad(outs, step.leaves, cotangents, retain_graph=True, allow_unused=True)
        )


def _cut(states: Sequence[State], truncation: int) -> tuple[list[Tensor], list[Tensor]]:
    """Put detached copies in place of what heads carry on; the originals and the copies."""
    outs, leaves = [], []
    for state in states:
        for groups in state.layers:
            for group in groups:
                if not group.group.carries:
                    continue
                for name in ("sink_k", "sink_v", "carry_k", "carry_v"):
                    carried = getattr(group, name)
                    # A copy: a view would keep the whole segment's keys and values alive.
                    leaf = carried.detach().clone()
                    setattr(group, name, leaf)
                    if truncation and leaf.numel() and carried.requires_grad:
                        outs.append(carried)
                        leaves.append(leaf.requires_grad_())
    return outs, leaves


def _known(outs: Sequence[Tensor], grads: Grads) -> tuple[list[Tensor], list[Tensor]]:
    pairs = [(out, grad) for out, grad in zip(outs, grads, strict=True) if grad is not None]
    return [out for out, _ in pairs], [grad for _, grad in pairs]


def _flush(step: _Live, params: Sequence[Tensor] | None) -> None:
    """One full backward pass: the segment's own loss and what its tail gathered."""
    if not step.hidden_TE.requires_grad:
        return  # the output head alone is trained, and has its gradient
    outs, cotangents = _known(step.outs, step.tail)
    if step.silent and not outs:
        return  # a long prompt: nothing that counts is near
    torch.autograd.backward(
        [step.hidden_TE, *outs],
        [step.grad_TE, *cotangents],
        inputs=None if params is None else list(params),
    )
