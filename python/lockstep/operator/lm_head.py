"""The language-model head in chunks: losses and their gradients without a [T, V] tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNK = 256  # rows of logits alive at once


@dataclass(frozen=True)
class Loss:
    """Sum of -log p(x_{t+1}) in nats, and the number of targets it is over."""

    sum: float
    targets: int

    @property
    def mean(self) -> float:
        return self.sum / self.targets


def logits(head: nn.Module, hidden_TE: Tensor) -> Tensor:
    """[T, V] in float32, or float64 for a float64 model."""
    out_TV = head(hidden_TE)
    return out_TV if out_TV.dtype == torch.float64 else out_TV.float()


def nll(head: nn.Module, hidden_TE: Tensor, targets_T: Tensor) -> Tensor:
    """-log p(target) of every row in float64 nats, [T]."""
    out = []
    for h_cE, y_c in zip(hidden_TE.split(CHUNK), targets_T.split(CHUNK), strict=True):
        logits_cV = logits(head, h_cE)
        target_c = logits_cV.gather(1, y_c[:, None])[:, 0].double()
        top_c = logits_cV.amax(1)
        sum_c = logits_cV.sub_(top_c[:, None]).exp_().sum(1)
        out.append(sum_c.double().log() + top_c.double() - target_c)
    return torch.cat(out) if out else hidden_TE.new_empty(0, dtype=torch.float64)


def wanted(sequences: Sequence[Tensor], masks: Sequence[Any] | None = None) -> list[Tensor]:
    """Per sequence the token after each one, [T]; -1 for the last and where the mask says no.

    masks: for each sequence a bool for each of its tokens, whether it counts, or None for all.
    """
    out = []
    for ids_T, mask in zip(sequences, masks or [None] * len(sequences), strict=True):
        after_T = torch.cat((ids_T[1:], ids_T.new_full((min(1, len(ids_T)),), -1)))
        if mask is not None:
            mask_T = torch.as_tensor(mask, dtype=torch.bool, device=ids_T.device)
            if mask_T.shape != ids_T.shape:
                raise ValueError(f"a mask of {len(mask_T)} for {len(ids_T)} tokens")
            after_T[:-1][~mask_T[1:]] = -1
        out.append(after_T)
    return out


@torch.no_grad()
def backward(
    head: nn.Linear, hidden_TE: Tensor, targets_T: Tensor, scale: float | Tensor
) -> tuple[float, Tensor]:
    """Sum of -log p(target) and the gradient of ``scale`` times it in ``hidden_TE``.

    scale: one for all rows, or one for each of them, [T].

    The gradient of the head's weight is added to its ``.grad``. Rows whose target is negative have
    none and get a zero gradient. One buffer of [CHUNK, V] is alive at once.
    """
    grad_TE = torch.zeros_like(hidden_TE)
    weight_VE = head.weight
    if weight_VE.requires_grad and weight_VE.grad is None:
        weight_VE.grad = torch.zeros_like(weight_VE)
    total = 0.0
    rows = (targets_T >= 0).nonzero()[:, 0]
    for row_c in rows.split(CHUNK):
        h_cE, y_c = hidden_TE[row_c], targets_T[row_c][:, None]
        p_cV = logits(head, h_cE)
        target_c = p_cV.gather(1, y_c)[:, 0].double()
        top_c = p_cV.amax(1, keepdim=True)
        p_cV.sub_(top_c).exp_()
        sum_c = p_cV.sum(1)
        total += float((sum_c.double().log() + top_c[:, 0].double() - target_c).sum())
        p_cV.div_(sum_c[:, None])
        p_cV.scatter_add_(1, y_c, torch.full_like(p_cV[:, :1], -1.0).expand_as(y_c))
        scale_c = scale if isinstance(scale, float) else scale[row_c][:, None].to(p_cV.dtype)
        p_cV = p_cV.mul_(scale_c).to(h_cE.dtype)
        # Under autocast the product comes in half precision.
        grad_TE[row_c] = F.linear(p_cV, weight_VE.t()).to(grad_TE.dtype)
        if weight_VE.grad is not None and weight_VE.requires_grad:
            weight_VE.grad.addmm_(p_cV.t(), h_cE)
    return total, grad_TE
