"""Attention of one segment: a prefix that every query sees, then the segment's own keys, causal.

transformers calls `segmented_attention` (registered under `NAME`) with raw queries and keys; the
context of the forward pass, given as the keyword `lockstep`, decides what each segment sees.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from .errors import LockstepError

NAME = "lockstep"


class Context(Protocol):
    """What a forward pass hands to attention."""

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        """Raw queries [Hq, T, D], keys and values [Hkv, T, D] -> outputs [Hq, T, D]."""
        ...


def attend(q_HTD: Tensor, k_HND: Tensor, v_HND: Tensor, scale: float) -> Tensor:
    """Rotated queries [Hq, T, D] over rotated keys [Hkv, N, D] -> [Hq, T, D].

    The T queries stand at the last T of the N keys; query head h reads KV head h // (Hq / Hkv).
    """
    Hq, T, D = q_HTD.shape
    H, N, _ = k_HND.shape
    if T == 1:
        # One query: the heads of a group become the rows of one small product.
        out = F.scaled_dot_product_attention(
            q_HTD.reshape(H, 1, Hq // H, D), k_HND[:, None], v_HND[:, None], scale=scale
        )
        return out.reshape(Hq, 1, D)
    q = q_HTD.reshape(H, Hq // H, T, D)
    k, v = (x[:, None].expand(H, Hq // H, N, D) for x in (k_HND, v_HND))
    if N == T:
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        mask = _causal(T, N, q.device)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return out.reshape(Hq, T, D)


@lru_cache(maxsize=8)
def _causal(T: int, N: int, device: torch.device) -> Tensor:
    """[T, N] mask: query t sees the keys up to N - T + t."""
    return torch.ones(T, N, dtype=torch.bool, device=device).tril(N - T)


def segmented_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    lockstep: Context | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: [1, H, T, D] in, [1, T, Hq, D] out."""
    if lockstep is None or dropout:
        raise LockstepError(
            "LS_MODEL_DIRECT",
            "expected a segmented model to be run through lockstep.Model without attention dropout",
            "call model.logits(ids), or set attention_dropout to 0 in config.json",
        )
    out_HTD = lockstep.attend(module.layer_idx, query[0], key[0], value[0], scaling)
    return out_HTD.transpose(0, 1)[None], None


AttentionInterface.register(NAME, segmented_attention)
