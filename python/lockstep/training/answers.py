"""log p of two answers to one prompt: the prompt runs once, and its state is forked for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lockstep.baseline import full
from lockstep.operator import lm_head
from lockstep.operator.model import Model
from lockstep.operator.state import State
from lockstep.training import document_starts
from lockstep.training.data import TrainSequence

Row = tuple[TrainSequence, TrainSequence]


def shared_prefix(row: Row) -> int:
    """Tokens that both sequences begin with; all that counts is predicted behind them."""
    first = min(_first(one) for one in row)
    same = 0
    for a, b in zip(row[0].ids, row[1].ids, strict=False):
        if a != b:
            break
        same += 1
    return max(0, min(same, first) - 1)


def shared_segments(row: Row) -> int:
    """Closed segments that both sequences begin with, which hold nothing that counts."""
    shared = shared_prefix(row)
    return sum(cut <= shared for cut in row[0].boundaries)


@torch.no_grad()
def log_probs(
    model: Model, rows: Sequence[Row], attention: str, most: int | None
) -> list[tuple[float, float]]:
    """Sum of log p over the tokens that count, in nats, of both answers of each row.

    attention: ``segmented`` or ``full``. most: tokens of a pass.
    """
    if attention == "full":
        return [(_full(model, a), _full(model, b)) for a, b in rows]
    prompts = [_Walk(model.state(), a, 0, shared_prefix((a, b))) for a, b in rows]
    for _ in _run(model, prompts, most):
        pass  # nothing counts here
    walks = []
    for prompt, row in zip(prompts, rows, strict=True):
        for state, one in zip((prompt.state, prompt.state.fork()), row, strict=True):
            walks.append(_Walk(state, one, prompt.stop, len(one.ids)))
    sums = [0.0] * len(walks)
    for w, start, hidden_TE in _run(model, walks, most):
        sums[w] -= _nll(model, walks[w].one, start, hidden_TE)
    return list(zip(sums[::2], sums[1::2], strict=True))


@dataclass(frozen=True)
class _Walk:
    """Tokens [start, stop) of a sequence, to be run on from ``state``."""

    state: State
    one: TrainSequence
    start: int
    stop: int

    def pieces(self) -> list[tuple[int, int]]:
        inside = [cut for cut in self.one.boundaries if self.start < cut < self.stop]
        edges = [self.start, *inside, self.stop]
        return [(a, b) for a, b in pairwise(edges) if b > a]


def _run(
    model: Model, walks: Sequence[_Walk], most: int | None
) -> Iterator[tuple[int, int, Tensor]]:
    """Run all walks side by side; (walk, first token, hidden states [T, E]) of each piece."""
    plans = [walk.pieces() for walk in walks]
    lengths = [[b - a for a, b in plan] for plan in plans]
    begun = document_starts.starts(lengths, most)
    for i in range(max((at + len(p) for at, p in zip(begun, plans, strict=True)), default=0)):
        active = [w for w, plan in enumerate(plans) if 0 <= i - begun[w] < len(plan)]
        parts = [(w, *plans[w][i - begun[w]]) for w in active]
        hidden = model.step_hidden_many(
            [(walks[w].state, walks[w].one.ids[a:b]) for w, a, b in parts]
        )
        for (w, a, b), hidden_TE in zip(parts, hidden, strict=True):
            yield w, a, hidden_TE
            one = walks[w].one
            if b < len(one.ids) and b in one.boundaries:
                model.close(walks[w].state)


def _nll(model: Model, one: TrainSequence, start: int, hidden_TE: Tensor) -> float:
    assert one.mask is not None
    rows = [
        t for t in range(len(hidden_TE)) if start + t + 1 < len(one.ids) and one.mask[start + t + 1]
    ]
    if not rows:
        return 0.0
    wanted_t = torch.tensor([one.ids[start + t + 1] for t in rows], device=model.device)
    return float(lm_head.nll(model.head, hidden_TE[rows], wanted_t).sum())


def _full(model: Model, one: TrainSequence) -> float:
    assert one.mask is not None
    nll_T = full.nll(model, one.ids)
    return -float(nll_T[torch.tensor(one.mask[1:], device=nll_T.device)].sum())


def _first(one: TrainSequence) -> int:
    """The first token that is predicted and counts."""
    assert one.mask is not None
    return one.mask.index(True, 1)
