"""Where K/V lives in vLLM: one paged cache per kind of head group, for all layers together.

vLLM pages each attention layer by itself, and groups layers of one kind so that every group has
the same number; few retrieval layers among many would make many groups. Here all heads of a kind
form one "layer", so a model has at most four groups whatever its depth:

- ``local``: K/V of local heads, the last S + M tokens and the sinks' blocks; where all heads carry,
  of long heads without a pool too, which then see the same;
- ``bare``: K/V of other long heads without a pool, the last S tokens and the sinks' blocks;
- ``pool``: raw K/V of the long heads of L_long, every token;
- ``queries``: what the recipe keeps of the last queries of L_long: for `anchors` group means in
  float32 of 64 tokens, for `blocks` raw queries of every query head, of W tokens.

A page holds, layer after layer, rows [token, head, row]. Rows of ``local`` and ``bare`` are K
rotated at its absolute position beside V; K of the first A tokens (the sinks) stays raw, since it
is rotated again for every segment. Rows of ``pool`` are raw K beside V (SEMANTICS.md 3 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.v1.attention.backend import (
    AttentionBackend,
    AttentionMetadataBuilder,
    CommonAttentionMetadata,
    MultipleOf,
)
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheSpec
from vllm.v1.kv_cache_layout import KVCacheLayout

from .. import retrieval
from ..contract.spec import Spec
from .kvspec import SinkWindowSpec

KINDS = ("local", "bare", "pool", "queries")
DEFAULT_BLOCK = 16  # tokens of the widest kind's page, where the user names no block size


def name_of(kind: str) -> str:
    """vLLM reads a layer number out of every cache's name."""
    return f"lockstep.layers.0.{kind}"


@dataclass
class CacheMetadata:
    """One kind's part of a step: block table [requests, blocks] and slots of the new tokens."""

    block_table: Tensor
    slots_T: Tensor
    query_start: Tensor
    seq_lens: Tensor
    block_size: int


class CacheMetadataBuilder(AttentionMetadataBuilder[CacheMetadata]):
    def __init__(self, kv_cache_spec: Any, layer_names: list[str], config: Any, device: Any):
        super().__init__(kv_cache_spec, layer_names, config, device)

    def build(
        self,
        common_prefix_len: int,
        common_attn_metadata: CommonAttentionMetadata,
        fast_build: bool = False,
    ) -> CacheMetadata:
        common = common_attn_metadata
        return CacheMetadata(
            common.block_table_tensor,
            common.slot_mapping,
            common.query_start_loc_cpu,
            common.seq_lens,
            self.kv_cache_spec.block_size,
        )


class SegmentedBackend(AttentionBackend):
    """What vLLM asks of a cache's owner; attention itself is `attention.SegmentedAttention`."""

    supported_dtypes: ClassVar = [torch.float32, torch.bfloat16, torch.float16]
    supported_kv_cache_dtypes: ClassVar = ["auto", "float32", "bfloat16", "float16"]

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int | MultipleOf]:
        return [MultipleOf(1)]

    @classmethod
    def supported_kv_cache_layouts(cls) -> tuple[KVCacheLayout, ...]:
        return (KVCacheLayout.LBHNC,)

    @classmethod
    def supports_sliding_window(cls) -> bool:
        return True

    @staticmethod
    def get_name() -> str:
        return "CUSTOM"

    @staticmethod
    def get_impl_cls() -> Any:
        return None

    @staticmethod
    def get_builder_cls() -> type[CacheMetadataBuilder]:
        return CacheMetadataBuilder


class Cache(nn.Module, AttentionLayerBase):
    """The cache of one kind, with ``heads[layer]`` KV heads: this rank's alone."""

    def __init__(
        self, kind: str, spec: Spec, heads: Sequence[int], head_dim: int, group: int, dtype: Any
    ):
        super().__init__()
        self.kind, self.spec, self.heads = kind, spec, tuple(heads)
        self.first = [sum(heads[:layer]) for layer in range(len(heads))]
        self.total = sum(heads)
        means = kind == "queries" and spec.recipe == "anchors"
        # Query means stay float32 whatever the model computes in: they decide a retrieval.
        self.dtype = torch.float32 if means else dtype
        self.width = head_dim * (2 if kind != "queries" else 1 if means else group)
        # Tokens and bytes of a page; `make_caches` sets them.
        self.block = self.page = 0
        self.kv_cache = torch.tensor([])
        self.rows_NC = torch.tensor([])
        self.units = 0

    @property
    def token_bytes(self) -> int:
        return self.total * self.width * self.dtype.itemsize

    def get_attn_backend(self) -> type[AttentionBackend]:
        return SegmentedBackend

    def get_kv_cache_spec(self, vllm_config: VllmConfig) -> KVCacheSpec:
        common: dict[str, Any] = {
            "block_size": self.block,
            "num_kv_heads": self.total,
            "head_size": self.width // 2,
            "head_size_v": self.width - self.width // 2,
            "dtype": self.dtype,
            "page_size_padded": self.page,
        }
        if self.kind == "pool":
            return FullAttentionSpec(**common)
        window, sinks, carry = retrieval.recent(self.spec.recipe, self.spec.window), 0, 0
        if self.kind != "queries":
            sinks, carry = self.spec.sinks, carried(self.spec, self.kind)
            window = self.spec.max + carry
        # A window of one token is none that vLLM's manager can slide.
        return SinkWindowSpec(sliding_window=max(window, 2), sinks=sinks, carry=carry, **common)

    def bind_kv_cache(self, kv_cache: Tensor) -> None:
        """Take the pages and see them as rows [blocks * units, width]; see `rows`."""
        self.kv_cache = kv_cache
        blocks, stride = kv_cache.shape[0], kv_cache.stride(0)
        assert stride % self.width == 0 and kv_cache.dtype == self.dtype
        self.units = stride // self.width
        self.rows_NC = kv_cache.as_strided(
            (blocks * self.units, self.width), (self.width, 1), kv_cache.storage_offset()
        )

    @property
    def blocks(self) -> int:
        return self.kv_cache.shape[0]

    def rows(self, layer: int) -> Tensor:
        """Rows from the layer's own on: row ``index(...)`` of it is a (token, head)'s."""
        return self.rows_NC[self.first[layer] * self.block :]

    def index(self, block: Tensor, offset: Tensor, heads: int) -> Tensor:
        """Row of a token's first head: the token stands at ``offset`` of block ``block``."""
        return block * self.units + offset * heads


def carried(spec: Spec, kind: str) -> int:
    """Tokens before a segment that heads of a kind carry into it."""
    return spec.carry if kind == "local" or (kind == "pool" and spec.all_carry) else 0


def long_heads_of(spec: Spec, ranks: int) -> list[int]:
    """By layer, a rank's KV heads that see otherwise than local ones; each rank has as many."""
    return [
        0 if spec.all_carry and not spec.pooled(layer) else len(heads) // ranks
        for layer, heads in enumerate(spec.long_heads)
    ]


def make_caches(
    spec: Spec,
    long_heads: Sequence[int],
    kv_heads: int,
    group: int,
    head_dim: int,
    config: VllmConfig,
) -> dict[str, Cache]:
    """Caches of the kinds that occur, with block sizes that make their pages equal.

    ``long_heads[layer]`` of the rank's ``kv_heads`` are long; each has ``group`` query heads. The
    widest kind gets the configured block size; the others hold more tokens a page, and what is left
    of it stays unused.
    """
    layers = range(len(long_heads))
    pooled = [spec.pooled(i) for i in layers]
    heads = {
        "local": [kv_heads - long_heads[i] for i in layers],
        "bare": [0 if pooled[i] else long_heads[i] for i in layers],
        "pool": [long_heads[i] if pooled[i] else 0 for i in layers],
    }
    if spec.recipe != "topk":
        heads["queries"] = heads["pool"]
    dtype = config.model_config.dtype
    caches = {
        kind: Cache(kind, spec, count, head_dim, group, dtype)
        for kind, count in heads.items()
        if sum(count)
    }
    settings = config.cache_config
    named = settings.user_specified_block_size or len(caches) == 1
    base = settings.block_size if named else DEFAULT_BLOCK
    widest = max(cache.token_bytes for cache in caches.values())
    windows = 1
    for cache in sorted(caches.values(), key=lambda cache: cache.kind == "pool"):
        ratio = widest // cache.token_bytes
        if cache.kind == "pool" and ratio > windows:
            # The pool grows with the sequence: use its pages up. A prefix-cache hit ends at a
            # common multiple of all block sizes, so keep them multiples of each other.
            ratio -= ratio % windows
        else:
            ratio = 1 << (ratio.bit_length() - 1)
            windows = max(windows, ratio)
        cache.block = base * ratio
        cache.page = base * widest
    return caches
