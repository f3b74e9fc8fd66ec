"""A document read once, every needle asked for: by full attention or in segments.

The answer is given (teacher forcing): a needle is recalled where each token of its value is the
most probable one behind those before it, which is what greedy decoding would write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lockstep import retrieval
from lockstep.baseline import full
from lockstep.needles.documents import Document, Needle
from lockstep.operator import lm_head
from lockstep.operator.contexts import packed_spans
from lockstep.operator.model import Model

#: Per layer of L_long the KV heads that hold a needle's value.
Held = dict[int, list[int]]


@dataclass(frozen=True)
class NeedleResult:
    """recalled: all tokens of the value; logp: mean log p of them (nats). cut: the last cut before
    the value, counted from the answer's beginning (negative: before it; None: there is none). held:
    per layer of L_long the KV heads whose rows retrieved there hold the whole value; None where the
    value is so near that it needs no retrieval."""

    recalled: bool
    logp: float
    cut: int | None = None
    held: Held | None = field(default=None)

    def as_dict(self) -> dict[str, Any]:
        held = None if self.held is None else {str(layer): h for layer, h in self.held.items()}
        return {"recalled": self.recalled, "logp": self.logp, "cut": self.cut, "held": held}


@torch.no_grad()
def full_attention(model: Model, document: Document) -> list[NeedleResult]:
    """Every needle by stock full attention; the document's keys and values are made once."""
    cache = DynamicCache(config=model.config)
    full.hidden(model, document.ids, cache)
    out = []
    for needle in document.needles:
        hidden_TE = full.hidden(model, needle.tail, cache)
        cache.crop(-len(needle.tail))
        out.append(NeedleResult(*_judged(model, hidden_TE, needle)))
    return out


@torch.no_grad()
def segmented(model: Model, document: Document) -> list[NeedleResult]:
    """Every needle in segments, cut by the model's plan; the document runs once."""
    ids, state = document.ids, model.state()
    cuts = model.plan(ids)
    last: tuple[int, dict[int, Tensor]] | None = None
    for span in packed_spans(len(ids), cuts):
        end = span.start + span.length
        model.step_hidden(state, ids[span.start : end])
        if end in cuts:
            last = end, model.close(state)
    out = []
    for needle in document.needles:
        own = [cut for cut in model.plan([*ids, *needle.tail]) if cut > len(ids)]
        out.append(_ask(model, state.fork(), last, document, needle, own))
    return out


def _ask(
    model: Model,
    state: Any,
    last: tuple[int, dict[int, Tensor]] | None,
    document: Document,
    needle: Needle,
    cuts: Sequence[int],
) -> NeedleResult:
    """``last``: the last boundary of the document and what it retrieved."""
    start = len(document.ids)
    opening, value = start + needle.opening, start + needle.answer.start
    parts = []
    at, stop = start, start + needle.answer.stop
    for end in [*(cut for cut in cuts if cut < stop), stop]:
        parts.append(model.step_hidden(state, needle.tail[at - start : end - start]))
        if end < stop:
            found = model.close(state)
            # What the value's first token is predicted with: a cut before that position.
            last = (end, found) if end < value else last
        at = end
    judged = _judged(model, torch.cat(parts), needle)
    if last is None:
        return NeedleResult(*judged)
    return NeedleResult(*judged, last[0] - opening, _held(model, last, needle))


def _held(model: Model, last: tuple[int, dict[int, Tensor]], needle: Needle) -> Held | None:
    at, positions = last
    if needle.span.stop > at - model.spec.carry or needle.span.start < model.spec.sinks:
        return None
    wanted = {n - model.spec.sinks for n in needle.span}
    return {
        layer: [
            head
            for head, rows in zip(
                model.spec.long_heads[layer], retrieval.listed(selected), strict=True
            )
            if wanted <= set(rows)
        ]
        for layer, selected in positions.items()
    }


def _judged(model: Model, hidden_TE: Tensor, needle: Needle) -> tuple[bool, float]:
    """Whether every token of the value is the most probable, and their mean log p."""
    answer = needle.answer
    logits_tV = lm_head.logits(model.head, hidden_TE[answer.start - 1 : answer.stop - 1])
    wanted_t = torch.tensor(needle.tail[answer.start : answer.stop], device=logits_tV.device)
    logp_tV = logits_tV.double().log_softmax(-1)
    recalled = bool((logits_tV.argmax(-1) == wanted_t).all())
    return recalled, float(logp_tV.gather(-1, wanted_t[:, None]).mean())
