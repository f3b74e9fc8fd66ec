"""What a step minimizes: the segmented objective L_K, or the control's ordinary loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lockstep.baseline import full
from lockstep.operator.contexts import packed_spans
from lockstep.operator.model import Model
from lockstep.training import document_starts, tbptt
from lockstep.training.data import TrainSequence, slots


@dataclass(frozen=True)
class Objective:
    """A loss over whole sequences, in nats summed over next tokens, and its gradient.

    attention ``segmented``: L_K of SEMANTICS.md 6, cut by the contract's own policy, the gradient
    crossing ``truncation`` boundaries. attention ``full``: stock, of the same weights.
    precision ``bfloat16``: matrix products in bfloat16 under float32 weights. recompute: activation
    checkpointing inside a segment.
    """

    model: Model
    attention: str
    truncation: int
    precision: str
    recompute: bool = False
    #: What `backward` sums beside the loss.
    metrics = ()

    def count(self, docs: Sequence[TrainSequence]) -> int:
        """Targets: what a step's sum is divided by."""
        return sum(doc.targets for doc in docs)

    def backward(
        self, docs: list[TrainSequence], targets: int, passes: int | None = None
    ) -> list[float]:
        """Add the gradient of (loss of ``docs``) / ``targets`` to ``.grad``; returns the loss.

        passes: for weights shared out over processes, how many passes each of them makes.
        """
        planned = [(doc.ids, doc.boundaries) for doc in docs]
        masks = [doc.mask for doc in docs]
        with torch.autocast(
            self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            if self.attention == "full":
                loss = full.backward(
                    self.model,
                    planned,
                    targets,
                    masks=masks,
                    recompute=self.recompute,
                    passes=passes,
                )
                return [loss.sum]
            loss = tbptt.backward(
                self.model,
                planned,
                self.truncation,
                targets,
                masks=masks,
                most=self._most(docs),
                recompute=self.recompute,
                passes=passes,
            )
            return [loss.sum]

    def passes(self, docs: list[TrainSequence]) -> int:
        """Forward passes that ``docs`` take together."""
        if self.attention == "full":
            return sum(len(doc.ids) > 1 for doc in docs)
        lengths = [[p.length for p in packed_spans(len(d.ids), d.boundaries)] for d in docs]
        return document_starts.passes(lengths, self._most(docs))

    def _most(self, docs: list[TrainSequence]) -> int:
        """Tokens of a pass: what as many unpacked sequences take at most."""
        return self.model.spec.max * len(slots(docs))
