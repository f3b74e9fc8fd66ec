"""The scheduler alone, with vLLM's own KV cache manager.

A "model" that samples token ids at random stands in for the worker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from lockstep.contract.planner import Planner
from lockstep.contract.reader import read
from lockstep.vllm import register
from lockstep.vllm.kvspec import SinkWindowSpec
from lockstep.vllm.scheduler import SegmentScheduler
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

IDS, BLOCK, MOST, CARRY, SINKS = 264, 8, 40, 12, 4
register()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scheduler")
    model = checkpoints.write_model(folder / "model")
    return checkpoints.attach(
        folder, model, policy="sums", least=8, most=MOST, carry=CARRY, sinks=SINKS
    )


Make = Callable[..., AsyncScheduler]


@pytest.fixture
def make(checkpoint: Path) -> Make:
    def scheduler(
        *,
        budget: int = 96,
        blocks: int = 4000,
        stock: bool = False,
        sizes: tuple[int, int, int] = (BLOCK, BLOCK, BLOCK),
        **options: Any,
    ) -> AsyncScheduler:
        config = EngineArgs(
            model=str(checkpoint),
            max_num_batched_tokens=budget,
            max_num_seqs=options.pop("sequences", 32),
            max_model_len=1024,
            block_size=BLOCK,
            dtype="float32",
            **options,
        ).create_engine_config()
        config.cache_config.num_gpu_blocks = blocks
        common = {"num_kv_heads": 1, "head_size": 8, "dtype": torch.float32}
        windows = {"local": (MOST + CARRY, SINKS, CARRY), "bare": (MOST, SINKS, 0)}
        groups = [
            KVCacheGroupSpec(
                [f"lockstep.layers.0.{name}"],
                SinkWindowSpec(
                    block_size=size, sliding_window=window, sinks=sinks, carry=carry, **common
                ),
            )
            for size, (name, (window, sinks, carry)) in zip(sizes, windows.items(), strict=False)
        ]
        pool = FullAttentionSpec(block_size=sizes[2], **common)
        groups.append(KVCacheGroupSpec(["lockstep.layers.0.pool"], pool))
        chosen = config.scheduler_config.get_scheduler_cls()
        assert chosen is SegmentScheduler
        return (AsyncScheduler if stock else chosen)(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                blocks,
                [],
                groups,
                prefix_cache_retention_interval=config.cache_config.prefix_cache_retention_interval,
                cache_hit_alignment_tokens=max(sizes),
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=max(sizes),
            hash_block_size=BLOCK,
            log_stats=True,
        )

    return scheduler


@pytest.fixture(scope="module")
def planner(checkpoint: Path) -> Planner:
    return Planner(read(checkpoint))


def request(name: str, prompt: Sequence[int], answer: int = 1, **xargs: Any) -> Request:
    init_none_hash(sha256)
    sampling = SamplingParams(max_tokens=answer, ignore_eos=True, extra_args=xargs or None)
    sampling.update_from_generation_config({}, eos_token_id=0)
    return Request(
        request_id=name,
        prompt_token_ids=list(prompt),
        sampling_params=sampling,
        pooling_params=None,
        block_hasher=get_request_block_hasher(BLOCK, sha256),
    )


def ids(count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(IDS) for _ in range(count)]


Step = dict[str, tuple[int, int]]


def run(
    scheduler: AsyncScheduler,
    requests: Sequence[Request],
    *,
    seed: int = 0,
    watch: Callable[[Step], None] | None = None,
    says: Callable[[str, int], int | None] = lambda name, at: None,
) -> tuple[list[Step], dict[str, Any]]:
    """Serve them to the end: per step the chunks {request: [start, end)}; the last outputs.

    says: the token that a request is given at a position, None for any.
    """
    draw = random.Random(seed)
    everything = {one.request_id: one for one in requests}
    for one in requests:
        scheduler.add_request(one)
    steps: list[Step] = []
    last: dict[str, Any] = {}
    while scheduler.has_unfinished_requests():
        assert len(steps) < 5000
        planned = scheduler.schedule()
        step: Step = {}
        sampled: list[list[int]] = []
        for name, count in planned.num_scheduled_tokens.items():
            end = everything[name].num_computed_tokens
            step[name] = (end - count, end)
            # Placeholders of tokens to come are counted as computed, but not among the tokens.
            known = everything[name].num_tokens
            told_id, any_id = says(name, end), draw.randrange(IDS)
            token = any_id if told_id is None else told_id
            sampled.append([token] if end >= known else [])
        steps.append(step)
        if watch is not None:
            watch(step)
        names = list(planned.num_scheduled_tokens)
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: i for i, name in enumerate(names)},
            sampled_token_ids=sampled,
        )
        for told in scheduler.update_from_output(planned, output).values():
            for one in told.outputs:
                last[one.request_id] = one
            if told.scheduler_stats is not None:
                last["stats"] = told.scheduler_stats
    return steps, last
