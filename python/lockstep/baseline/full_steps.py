"""Stock full attention step by step, behind the interface that `engine` drives a `Model` through.

transformers' own rotary embedding, SDPA and cache: generation with it is what the checkpoint gives
without Lockstep, and what segmented execution is compared with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ..operator import lm_head
from ..operator.checks import check_ids
from ..operator.model import LogitRows, Model


class FullState:
    """A sequence: the keys and values of all its tokens."""

    def __init__(self, config: Any):
        self.cache = DynamicCache(config=config)
        self.position = 0

    def nbytes(self) -> dict[str, int]:
        """Bytes held, by part: all of it is an open segment that never ends."""
        layers: list[Any] = self.cache.layers
        held = [t for layer in layers for t in (layer.keys, layer.values)]
        used = sum(t.numel() * t.element_size() for t in held if t is not None)
        return {"sinks": 0, "carry": 0, "pool": 0, "retrieved": 0, "open": used}


class FullSteps:
    """A model whose steps see every token before them; closing a segment changes nothing."""

    def __init__(self, model: Model):
        self.model = model
        self.config, self.layout, self.dtype = model.config, model.layout, model.dtype
        self.contract, self.vocabulary = model.contract, model.vocabulary

    def state(self) -> FullState:
        return FullState(self.config)

    @torch.no_grad()
    def step(self, state: FullState, ids: Any, rows: LogitRows = "last") -> Tensor:
        """Run more tokens; logits of no row, the last, or all: [rows, V]."""
        ids_T = check_ids(ids, self.vocabulary, self.model.device)
        config = self.config
        before, config._attn_implementation = config._attn_implementation, "sdpa"
        try:
            hidden_TE = self.model.module.model(
                input_ids=ids_T[None], past_key_values=state.cache, use_cache=True
            ).last_hidden_state[0]
        finally:
            config._attn_implementation = before
        state.position += len(ids_T)
        hidden_TE = {"none": hidden_TE[:0], "last": hidden_TE[-1:], "all": hidden_TE}[rows]
        return lm_head.logits(self.model.head, hidden_TE)

    def close(self, state: FullState) -> dict[int, Tensor]:
        return {}
