"""Full attention in chunks: what a server does that has to prefill a long prompt.

In one pass, activations of all tokens stand beside the cache. In chunks they do not, but
transformers then grows its cache by concatenation and gives SDPA a mask, which rules FlashAttention
out. Here the cache is allocated once, and the mask is the bias that torch's FlashAttention knows.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicLayer

NAME = "bench-chunked"


class _Allocated(DynamicLayer):
    """A layer's keys and values in buffers of their final size."""

    def __init__(self, tokens: int):
        super().__init__()
        self._tokens, self._n = tokens, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            B, H, _, D = key_states.shape
            self._keys_BHND = key_states.new_empty(B, H, self._tokens, D)
            self._values_BHND = value_states.new_empty(B, H, self._tokens, D)
        end = self._n + key_states.shape[2]
        self._keys_BHND[:, :, self._n : end] = key_states
        self._values_BHND[:, :, self._n : end] = value_states
        self._n = end
        self.keys, self.values = self._keys_BHND[:, :, :end], self._values_BHND[:, :, :end]
        return self.keys, self.values


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    out_BHTD = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=causal_lower_right(query.shape[2], key.shape[2]),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out_BHTD.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attention)


def chunked(module: Any, ids_T: Tensor, chunk: int) -> tuple[Tensor, Cache]:
    """Last row's hidden state [E] and the filled cache."""
    cache = Cache(layers=[_Allocated(len(ids_T)) for _ in module.model.layers])
    module.config._attn_implementation = NAME
    for ids_t in ids_T.split(chunk):
        out = module.model(input_ids=ids_t[None], past_key_values=cache, use_cache=True)
    return out.last_hidden_state[0, -1], cache


def whole(module: Any, ids_T: Tensor) -> tuple[Tensor, Cache]:
    """The same in one pass, by transformers' own SDPA and cache."""
    module.config._attn_implementation = "sdpa"
    out = module.model(input_ids=ids_T[None], use_cache=True)
    return out.last_hidden_state[0, -1], out.past_key_values


def cache_bytes(cache: Any) -> int:
    return sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
