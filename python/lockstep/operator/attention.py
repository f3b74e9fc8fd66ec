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
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface

from ..errors import LockstepError

NAME = "lockstep"
BLOCK = {"cpu": 128, "gpu": 1024}  # queries a call
FLASH = (torch.bfloat16, torch.float16)  # what FlashAttention computes, on a GPU


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
    if q.is_cuda and q.dtype in FLASH:
        return _lower_right(q, k, v, scale).reshape(Hq, T, D)
    # The masked upper triangle is computed all the same: blocks of queries leave most of it out.
    block = BLOCK["cpu" if q.device.type == "cpu" else "gpu"]
    outs = []
    for s in range(0, T, block):
        e = min(T, s + block)
        n = N - T + e
        mask_bn = _mask(block, n, q)[block - (e - s) :]
        outs.append(
            F.scaled_dot_product_attention(
                q[:, :, s:e], k[:, :, :n], v[:, :, :n], attn_mask=mask_bn, scale=scale
            )
        )
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 2)
    return out.reshape(Hq, T, D)


def _lower_right(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """The same in one call and without a mask in memory, which would rule FlashAttention out."""
    bias: Any = causal_lower_right(q.shape[-2], k.shape[-2])
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def _mask(block: int, n: int, like: Tensor) -> Tensor:
    """[block, n], 0 or -inf: the last row sees all n keys, each row before it one less."""
    columns = 1 << (max(n, block) - 1).bit_length()
    return _triangle(block, columns, like.dtype, like.device)[:, columns - n :]


@lru_cache(maxsize=16)
def _triangle(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Additive: a boolean mask would be turned into one at every call.
    hidden = torch.full((rows, columns), -torch.inf, dtype=dtype, device=device)
    return hidden.triu(columns - rows + 1)


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
