"""What a step minimizes: the segmented objective L_K, or the control's ordinary loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lockstep import full, tbptt
from lockstep.model import Model
from lockstep.training.data import Drawn

Ids = list[int]


@dataclass(frozen=True)
class Objective:
    """A loss over whole sequences, in nats summed over next tokens, and its gradient.

    mode ``segmented``: L_K of SEMANTICS.md 6, cut by the contract's own policy, the gradient
    crossing ``truncation`` boundaries. mode ``full``: stock full attention of the same weights.
    precision ``bfloat16``: matrix products in bfloat16 under float32 weights.
    """

    model: Model
    mode: str
    truncation: int
    precision: str

    def backward(self, docs: list[Drawn], targets: int) -> float:
        """Add the gradient of (loss of ``docs``) / ``targets`` to ``.grad``; returns the loss."""
        planned = [(doc.ids, doc.boundaries) for doc in docs]
        with torch.autocast(
            self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            if self.mode == "full":
                return full.backward(self.model, planned, targets).sum
            return tbptt.backward(self.model, planned, self.truncation, targets).sum

    def nll(self, ids: Ids) -> torch.Tensor:
        """-log p of ids[1:], float64 nats [T-1]."""
        if self.mode == "full":
            return full.nll(self.model, ids)
        return self.model.nll(ids, self.model.plan(ids))
