"""A KV cache group that keeps a sequence's first tokens besides its window, for vLLM.

Unpickling a `SinkWindowSpec` imports this module, so a process that never ran the plugin's entry
point finds the manager all the same: without it vLLM would take SlidingWindowManager, which frees
the sinks' blocks, and running requests would read recycled memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vllm.utils.math_utils import cdiv
from vllm.v1.core.kv_cache_utils import KVCacheBlock, resolve_block_hashes
from vllm.v1.core.single_type_kv_cache_manager import SlidingWindowManager
from vllm.v1.kv_cache_interface import KVCacheSpec, SlidingWindowSpec
from vllm.v1.kv_cache_spec_registry import KVCacheSpecRegistry, register_kv_cache_spec


class SinkWindowManager(SlidingWindowManager):
    """Frees what slid out of the window, except the blocks of the first ``sinks`` tokens.

    ``open_start`` (request id, tokens computed) -> start of the segment that the next token belongs
    to. Where it is set, everything before that segment's carry is freed as well: blocks go back at
    a boundary, and not only once the longest possible segment has passed.
    """

    def __init__(self, kv_cache_spec: SinkWindowSpec, **kwargs: Any) -> None:
        super().__init__(kv_cache_spec, **kwargs)
        self.sink_blocks = kv_cache_spec.sink_blocks
        self.carry = kv_cache_spec.carry
        self.open_start: Callable[[str, int], int] | None = None

    def remove_skipped_blocks(
        self,
        request_id: str,
        processed_computed_tokens: int,
        num_prompt_tokens: int | None = None,
    ) -> None:
        skipped = self.get_num_skipped_tokens(processed_computed_tokens)
        if self.open_start is not None:
            unseen = self.open_start(request_id, processed_computed_tokens) - self.carry
            if self.enable_caching:
                # The prefix cache takes blocks up as whole units of all groups: one given back
                # before its turn would be missing there, and cut later hits short.
                unseen = min(unseen, self.num_cached_block.get(request_id, 0) * self.block_size)
            skipped = max(skipped, unseen)
        blocks = self.req_to_blocks.get(request_id)
        if blocks:
            end = min(skipped // self.block_size, len(blocks))
            self._remove_blocks_in_range(request_id, self.sink_blocks, end)

    @classmethod
    def find_longest_cache_hit(
        cls,
        block_hashes: Any,
        max_length: int,
        kv_cache_group_ids: list[int],
        block_pool: Any,
        kv_cache_spec: KVCacheSpec,
        drop_eagle_block: bool,
        alignment_tokens: int,
        dcp_world_size: int = 1,
        pcp_world_size: int = 1,
    ) -> tuple[tuple[list[KVCacheBlock], ...], int]:
        assert isinstance(kv_cache_spec, SinkWindowSpec)

        def find(length: int) -> tuple[tuple[list[KVCacheBlock], ...], int]:
            return SlidingWindowManager.find_longest_cache_hit(
                block_hashes,
                length,
                kv_cache_group_ids,
                block_pool,
                kv_cache_spec,
                drop_eagle_block,
                alignment_tokens,
                dcp_world_size,
                pcp_world_size,
            )

        groups, length = find(max_length)
        hashes = resolve_block_hashes(
            block_hashes, block_pool.hash_block_size, kv_cache_spec.block_size
        )
        for i in range(min(kv_cache_spec.sink_blocks, len(groups[0]))):
            cached = block_pool.get_cached_block(hashes[i], kv_cache_group_ids)
            if not cached:
                # Every later position sees the sinks: only what lies before them can be used.
                return find(i * kv_cache_spec.block_size)
            for blocks, block in zip(groups, cached, strict=True):
                blocks[i] = block
        return groups, length

    @classmethod
    def reachable_block_mask(
        cls,
        start_block: int,
        end_block: int,
        alignment_tokens: int | None,
        kv_cache_spec: KVCacheSpec,
        *args: Any,
        **kwargs: Any,
    ) -> list[bool] | None:
        assert isinstance(kv_cache_spec, SinkWindowSpec)
        mask = super().reachable_block_mask(
            start_block, end_block, alignment_tokens, kv_cache_spec, *args, **kwargs
        )
        if mask is not None:
            for i in range(start_block, min(end_block, kv_cache_spec.sink_blocks)):
                mask[i - start_block] = True
        return mask

    def get_num_blocks_to_allocate(
        self,
        request_id: str,
        num_tokens: int,
        new_computed_blocks: Sequence[KVCacheBlock],
        total_computed_tokens: int,
        *args: Any,
        **kwargs: Any,
    ) -> int:
        count = super().get_num_blocks_to_allocate(
            request_id, num_tokens, new_computed_blocks, total_computed_tokens, *args, **kwargs
        )
        if request_id not in self.num_cached_block:
            kept = new_computed_blocks[: self._kept(total_computed_tokens)]
            count += self._get_num_evictable_blocks(kept)
        return count

    def add_local_computed_blocks(
        self,
        request_id: str,
        new_computed_blocks: Sequence[KVCacheBlock],
        num_local_computed_tokens: int,
        num_external_computed_tokens: int,
    ) -> None:
        assert num_external_computed_tokens == 0, "KV connectors lose the sinks' blocks"
        super().add_local_computed_blocks(
            request_id,
            new_computed_blocks,
            num_local_computed_tokens,
            num_external_computed_tokens,
        )
        kept = list(new_computed_blocks[: self._kept(num_local_computed_tokens)])
        if kept:
            assert not any(block.is_null for block in kept), "a hit without the sinks' blocks"
            self.block_pool.touch(kept)
            self.req_to_blocks[request_id][: len(kept)] = kept

    def _kept(self, computed_tokens: int) -> int:
        """Sink blocks in the range that the window alone would skip."""
        skipped = self.get_num_skipped_tokens(computed_tokens) // self.block_size
        return min(self.sink_blocks, skipped)


# A registry that is not empty suppresses vLLM's own entries: make it fill itself first.
KVCacheSpecRegistry.check_kv_cache_spec_registry({})


@register_kv_cache_spec(manager_class=SinkWindowManager)
@dataclass(frozen=True, kw_only=True)
class SinkWindowSpec(SlidingWindowSpec):
    """``sinks`` tokens are kept for ever, ``carry`` tokens before the open segment."""

    sinks: int
    carry: int

    @property
    def sink_blocks(self) -> int:
        return cdiv(self.sinks, self.block_size)

    @property
    def num_retained_tokens(self) -> int:
        """vLLM 0.33's Model Runner V2 hides the blocks before so many tokens behind the null block,
        the sinks' among them; 0: it hides none. 0.32 knows no such thing."""
        return 0

    def max_admission_blocks_per_request(
        self, max_in_flight_tokens: int, max_model_len: int
    ) -> int:
        window = super().max_admission_blocks_per_request(max_in_flight_tokens, max_model_len)
        return min(window + self.sink_blocks, cdiv(max_model_len, self.block_size) + 1)

    def is_uniform_with_collection(self, kv_cache_specs: dict[str, KVCacheSpec]) -> bool:
        # Kinds that differ in any of these free different blocks, so they cannot share a table.
        return all(
            isinstance(spec, SinkWindowSpec)
            and (spec.sliding_window, spec.sinks, spec.carry)
            == (self.sliding_window, self.sinks, self.carry)
            for spec in kv_cache_specs.values()
        )
