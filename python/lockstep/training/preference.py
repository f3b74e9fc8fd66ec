"""Direct preference optimization (DPO, arXiv 2305.18290) of the segmented objective.

A row has a prompt and two answers. With log p(answer) summed over its tokens (or averaged, where it
is length-normalized; arXiv 2411.15124), its margin is

    m = beta [(log p(chosen) - log p0(chosen)) - (log p(rejected) - log p0(rejected))]

where p0 is the model before the training, run under the same contract, and its loss is
-log sigmoid(m). The gradient of m is that of two next-token losses with opposite signs, each
truncated as L_K is. Its factor depends on both answers whole, so these run forward first, without a
graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lockstep.baseline import full
from lockstep.operator.model import Model
from lockstep.training import tbptt
from lockstep.training.answers import Row, log_probs, shared_segments
from lockstep.training.data import TrainSequence, as_pairs, slots
from lockstep.training.settings import Dpo

#: Reported with the loss: the mean margin, and the share of rows whose margin is above 0.
METRICS = ("margin", "accuracy")
Reference = Callable[[Sequence[Row]], list[tuple[float, float]]]


@dataclass(frozen=True)
class PairLoss:
    """loss: in nats. margin: m. weight: how much the loss falls as m grows, 0..1."""

    loss: float
    margin: float
    weight: float

    @property
    def sums(self) -> list[float]:
        """Loss and `METRICS` of this row."""
        return [self.loss, self.margin, float(self.margin > 0)]


@dataclass(frozen=True)
class Preferences:
    """The DPO loss of rows, and its gradient; fields as of `Objective`. reference: log p0."""

    model: Model
    attention: str
    truncation: int
    precision: str
    recompute: bool
    dpo: Dpo
    reference: Reference
    metrics = METRICS

    def count(self, docs: Sequence[TrainSequence]) -> int:
        """Rows: what a step's sum is divided by."""
        return len(docs) // 2

    def backward(
        self, docs: list[TrainSequence], rows: int, passes: int | None = None
    ) -> list[float]:
        """Add the gradient of (loss of ``docs``) / ``rows`` to ``.grad``; sums of loss, metrics."""
        if not docs:
            return [0.0] * (1 + len(METRICS))
        pairs = as_pairs(docs)
        judged = self.losses(pairs)
        scales = []
        for row, one in zip(pairs, judged, strict=True):
            for sign, answer in zip((1.0, -1.0), row, strict=True):
                scales.append(sign * self.dpo.beta * one.weight / rows / self._length(answer))
        planned = [(doc.ids, doc.boundaries) for doc in docs]
        masks = [doc.mask for doc in docs]
        with self._precision():
            if self.attention == "full":
                full.backward(
                    self.model, planned, masks=masks, recompute=self.recompute, scales=scales
                )
            else:
                shared: list[tuple[int, int] | None] = []
                for n, row in enumerate(pairs):
                    many = shared_segments(row)
                    shared += [None, (2 * n, many) if many else None]
                tbptt.backward(
                    self.model,
                    planned,
                    self.truncation,
                    masks=masks,
                    most=self._most(docs),
                    recompute=self.recompute,
                    scales=scales,
                    shared=shared,
                )
        return [sum(values) for values in zip(*(one.sums for one in judged), strict=True)]

    def losses(self, rows: Sequence[Row]) -> list[PairLoss]:
        """Loss and margin of each row under the model as it is."""
        docs = [one for row in rows for one in row]
        with self._precision():
            own = log_probs(self.model, rows, self.attention, self._most(docs))
        out = []
        for row, mine, theirs in zip(rows, own, self.reference(rows), strict=True):
            gained = [
                (a - b) / self._length(one) for a, b, one in zip(mine, theirs, row, strict=True)
            ]
            margin = self.dpo.beta * (gained[0] - gained[1])
            out.append(PairLoss(_softplus(-margin), margin, _sigmoid(-margin)))
        return out

    def passes(self, docs: list[TrainSequence]) -> int:
        raise NotImplementedError("weights that are sharded over processes are refused")

    def _length(self, answer: TrainSequence) -> int:
        return answer.targets if self.dpo.lengthNormalized else 1

    def _most(self, docs: Sequence[TrainSequence]) -> int:
        return self.model.spec.max * len(slots(docs))

    def _precision(self) -> torch.autocast:
        return torch.autocast(
            self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def _softplus(x: float) -> float:
    """log(1 + e^x), wherever x lies."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _sigmoid(x: float) -> float:
    small = math.exp(-abs(x))
    return (1.0 if x >= 0 else small) / (1.0 + small)
