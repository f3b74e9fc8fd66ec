"""The KV spec of groups that keep sinks, as vLLM's workers read it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lockstep.vllm.kvspec import SinkWindowSpec

BLOCK = 16
SPEC = SinkWindowSpec(
    block_size=BLOCK,
    num_kv_heads=1,
    head_size=8,
    dtype=torch.float32,
    sliding_window=64,
    sinks=4,
    carry=16,
)


def hidden(reach: int, first: int) -> int:
    """Leading blocks that Model Runner V2 of vLLM 0.33 replaces by the null block in a step that
    begins at token ``first`` (its `_gather_block_tables_kernel`)."""
    return max(first - reach, 0) // BLOCK if reach > 0 else 0


@pytest.mark.parametrize("first", [0, 64, 80, 4096, 1 << 20])
def test_no_block_is_hidden_from_a_worker(first: int) -> None:
    assert hidden(SPEC.num_retained_tokens, first) == 0
    # A plain window's would be, and with it the sinks'.
    assert first < 4096 or hidden(SPEC.sliding_window - 1, first) > SPEC.sink_blocks


def test_a_copy_keeps_that() -> None:
    """vLLM 0.33 copies specs of windows to note what speculation needs."""
    assert replace(SPEC, sliding_window=128).num_retained_tokens == 0
