"""The control: ordinary training with stock attention, on the same tokens in the same order."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# Rows of logits alive at once: [ROWS, V] and its gradient, whatever the sequence's length.
ROWS = 512


def backward(module: nn.Module, docs: list[list[int]], targets: int) -> float:
    """Add the gradient of the mean next-token loss of ``docs`` to ``.grad``.

    module: a causal language model of transformers with its own attention. targets: number of
    targets of the whole optimizer step, by which the sum is divided. Returns the sum in nats.
    """
    total = 0.0
    for ids in docs:
        ids_T = torch.tensor(ids, device=next(module.parameters()).device)
        hidden_TE = module.model(input_ids=ids_T[None], use_cache=False).last_hidden_state[0]  # type: ignore[operator]
        # Head and loss run on a leaf, piece by piece, so that [T, V] never stands in memory.
        leaf_TE = hidden_TE.detach().requires_grad_()
        for start in range(0, len(ids) - 1, ROWS):
            end = min(start + ROWS, len(ids) - 1)
            loss = F.cross_entropy(
                module.lm_head(leaf_TE[start:end]).float(),  # type: ignore[operator]
                ids_T[start + 1 : end + 1],
                reduction="sum",
            )
            (loss / targets).backward()
            total += loss.item()
        hidden_TE.backward(leaf_TE.grad)
    return total


@torch.no_grad()
def nll(module: nn.Module, ids: list[int]) -> torch.Tensor:
    """-log p of ids[1:], float64 nats [T-1], with stock attention."""
    ids_T = torch.tensor(ids, device=next(module.parameters()).device)
    hidden_TE = module.model(input_ids=ids_T[None], use_cache=False).last_hidden_state[0]  # type: ignore[operator]
    parts = []
    for start in range(0, len(ids) - 1, ROWS):
        end = min(start + ROWS, len(ids) - 1)
        parts.append(
            F.cross_entropy(
                module.lm_head(hidden_TE[start:end]).double(),  # type: ignore[operator]
                ids_T[start + 1 : end + 1],
                reduction="none",
            )
        )
    return torch.cat(parts)
