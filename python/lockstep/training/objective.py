"""What a step minimizes: the segmented objective L_K, or the control's ordinary loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from lockstep.training import full_attention
from lockstep.training.settings import Job

Ids = list[int]


class Objective(Protocol):
    """module: the model that is trained. Both losses are sums over next tokens, in nats."""

    module: nn.Module

    def backward(self, docs: list[Ids], targets: int) -> float:
        """Add the gradient of (loss of ``docs``) / ``targets`` to ``.grad``; returns the loss."""

    def nll(self, ids: Ids) -> torch.Tensor:
        """-log p of ids[1:], float64 nats [T-1]."""


class Segmented:
    """L_K of SEMANTICS.md 6: segments cut by the contract's own policy, K boundaries crossed."""

    def __init__(self, module: nn.Module, contract: dict[str, Any], job: Job):
        from lockstep import tbptt
        from lockstep.model import Model, Spec

        self.module, self._tbptt = module, tbptt
        self.model = Model.from_module(module, Spec.from_contract(contract))
        self.plan = planner(job.contract)
        self.truncation, self.precision = job.training.truncation, job.training.precision

    def backward(self, docs: list[Ids], targets: int) -> float:
        planned = [(ids, self.plan(ids)) for ids in docs]
        with mixed(self.precision):
            loss = self._tbptt.backward(
                self.model, planned, truncation=self.truncation, targets=targets
            )
        return float(loss.sum)

    def nll(self, ids: Ids) -> torch.Tensor:
        return self.model.nll(ids, self.plan(ids))


class Full:
    """Stock full attention: the control."""

    def __init__(self, module: nn.Module, precision: str):
        self.module, self.precision = module, precision

    def backward(self, docs: list[Ids], targets: int) -> float:
        with mixed(self.precision):
            return full_attention.backward(self.module, docs, targets)

    def nll(self, ids: Ids) -> torch.Tensor:
        return full_attention.nll(self.module, ids)


def mixed(precision: str) -> torch.autocast:
    """bfloat16 matrix products under float32 weights, or nothing."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def planner(directory: Path) -> Callable[[Ids], list[int]]:
    """The contract's own policy: token ids of a whole sequence -> decided cuts."""
    from lockstep.planner import Planner

    return Planner(directory).plan
