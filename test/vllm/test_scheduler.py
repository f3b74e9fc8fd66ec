"""The scheduler alone, with vLLM's own KV cache manager: chunk ends, freed blocks, what it tells.

A "model" that samples token ids at random stands in for the worker.
"""

from __future__ import annotations

import random
from bisect import bisect_left
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
from lockstep.vllm.metrics import SegmentStats
from lockstep.vllm.scheduler import SegmentScheduler
from prometheus_client import REGISTRY
from vllm import SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.engine import FinishReason
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


def inside(steps: Sequence[Step], name: str, cuts: Sequence[int], prompt: int) -> list[int]:
    """Chunk ends of a request's prefill that are neither a boundary nor the prompt's end."""
    ends = [step[name][1] for step in steps if name in step]
    return [end for end in ends if end < prompt and end not in cuts]


def mixed(count: int, answer: int = 20) -> list[Request]:
    lengths = (400, 3, 50, 170)
    return [request(f"r{i}", ids(lengths[i % 4], i), answer) for i in range(count)]


@pytest.mark.parametrize("count", [1, 7, 32])
def test_chunks_end_on_boundaries(make: Make, planner: Planner, count: int) -> None:
    requests = mixed(count)
    steps, _ = run(make(budget=96), requests)
    chunks = 0
    for one in requests:
        prompt = one.prompt_token_ids
        assert prompt is not None
        assert inside(steps, one.request_id, planner.plan(prompt), len(prompt)) == []
        chunks += sum(one.request_id in step for step in steps)
        assert one.num_output_tokens == 20
    assert chunks > 20 * count


def test_the_stock_scheduler_cuts_segments(make: Make, planner: Planner) -> None:
    """The control of the test above."""
    requests = mixed(7)
    steps, _ = run(make(budget=96, stock=True), requests)
    assert any(
        inside(steps, one.request_id, planner.plan(one.prompt_token_ids), one.num_prompt_tokens)
        for one in requests
    )


@pytest.mark.parametrize("budget", [16, 37])
def test_a_segment_over_the_budget_is_cut(make: Make, planner: Planner, budget: int) -> None:
    """It takes whole steps then; what fits still gets a chunk of its own."""
    prompt = ids(600, 3)
    steps, _ = run(make(budget=budget, sequences=4), [request("a", prompt)])
    cuts = planner.plan(prompt)
    edges = [0, *cuts, len(prompt)]
    wrong = inside(steps, "a", cuts, len(prompt))
    assert wrong
    for end in wrong:
        at = bisect_left(edges, end)
        assert edges[at] - edges[at - 1] > budget
        assert (end - edges[at - 1]) % budget == 0
    assert all(end - start <= budget for step in steps for start, end in step.values())


def test_a_chunk_holds_as_many_segments_as_fit(make: Make, planner: Planner) -> None:
    prompt = ids(600, 4)
    steps, _ = run(make(budget=512), [request("a", prompt)])
    cuts = planner.plan(prompt)
    assert steps[0]["a"] == (0, max(cut for cut in cuts if cut <= 512))


def test_a_threshold_for_long_prompts_is_a_budget(make: Make, planner: Planner) -> None:
    """With others waiting, no chunk is longer; what fits under the threshold stays whole."""
    requests = [request(f"r{i}", ids(300, i)) for i in range(3)]
    steps, _ = run(make(budget=512, long_prefill_token_threshold=24), requests)
    for one in requests:
        cuts = planner.plan(one.prompt_token_ids)
        edges = [0, *cuts, 300]
        for end in inside(steps[:5], one.request_id, cuts, 300):
            at = bisect_left(edges, end)
            assert edges[at] - edges[at - 1] > 24
    assert all(end - start <= 24 for start, end in steps[0].values())


def test_a_hit_inside_a_segment_goes_on_to_its_end(make: Make, planner: Planner) -> None:
    prompt = ids(300, 8)
    cuts = planner.plan(prompt)
    scheduler = make(budget=96)
    run(scheduler, [request("a", prompt)])
    hits = []
    for length in range(90, 290, 25):
        again = request(f"b{length}", [*prompt[:length], *ids(60, length)])
        steps, _ = run(scheduler, [again])
        hits.append(steps[0][again.request_id][0])
        own = planner.plan(again.prompt_token_ids)
        assert inside(steps, again.request_id, own, again.num_prompt_tokens) == []
    assert any(hit and hit not in cuts for hit in hits)


def test_blocks_that_went_back_early_are_in_the_prefix_cache(make: Make) -> None:
    """Head groups of other block sizes fill the cache in common units, later than segments end."""
    prompt = ids(400, 12)
    scheduler = make(budget=37, sizes=(8, 16, 32), prefix_cache_retention_interval=None)
    run(scheduler, [request("a", prompt)])
    for length in range(70, 390, 40):
        again = request(f"b{length}", [*prompt[:length], *ids(40, length)])
        steps, _ = run(scheduler, [again])
        assert steps[0][again.request_id][0] == length // 32 * 32


def test_decoding_never_starves_a_prefill(make: Make) -> None:
    """Segments of 40 do not fit beside 12 decodes in 48 tokens; the prompt still gets through."""
    decoders = [request(f"d{i}", ids(9, i), 200) for i in range(12)]
    late = request("late", ids(400, 50), 2)
    scheduler = make(budget=48)
    steps, _ = run(scheduler, [*decoders, late])
    waited = [i for i, step in enumerate(steps) if "late" in step]
    assert len(waited) < 40 and late.num_output_tokens == 2


def test_blocks_go_back_at_the_boundary(make: Make, planner: Planner) -> None:
    prompt = ids(600, 5)
    cuts = planner.plan(prompt)
    held: dict[bool, list[int]] = {True: [], False: []}
    for stock in (True, False):
        scheduler = make(budget=MOST, stock=stock)
        managers = scheduler.kv_cache_manager.coordinator.single_type_managers

        def watch(step: Step, managers: Any = managers, stock: bool = stock) -> None:
            start = step["a"][0] if "a" in step else 0
            if not start or start > len(prompt) - 1:
                return
            blocks = managers[0].req_to_blocks["a"]
            kept = [i for i, block in enumerate(blocks) if not block.is_null]
            held[stock].append(len(kept))
            if not stock and start in cuts:
                low = max(start - CARRY, 0) // BLOCK
                assert kept == sorted({0, *range(low, len(blocks))})

        run(scheduler, [request("a", prompt)], watch=watch)
    mean = {stock: sum(found) / len(found) for stock, found in held.items()}
    assert mean[False] < 0.8 * mean[True]


def test_segments_are_told_when_asked(make: Make, planner: Planner) -> None:
    prompt = ids(200, 6)
    asks = request("a", prompt, 60, lockstep_segments=1)
    silent = request("b", prompt, 60)
    _, last = run(make(), [asks, silent])
    told = last["a"].kv_transfer_params["lockstep"]
    whole = list(asks.all_token_ids)
    cuts = planner.plan(whole)
    assert [end for _, end in told["segments"]] == cuts
    assert [start for start, _ in told["segments"]] == [0, *cuts[:-1]]
    assert told.get("open", [len(whole)] * 2) == [cuts[-1], len(whole)] or cuts[-1] == len(whole)
    assert last["b"].kv_transfer_params is None
    assert max(cuts) > len(prompt)


def test_preemption_keeps_the_layout(make: Make, planner: Planner) -> None:
    requests = [request(f"r{i}", ids(120, i), 150, lockstep_segments=1) for i in range(8)]
    scheduler = make(budget=96, blocks=190)
    _, last = run(scheduler, requests)
    assert sum(one.num_preemptions for one in requests) > 0
    for one in requests:
        told = last[one.request_id].kv_transfer_params["lockstep"]["segments"]
        assert [end for _, end in told] == planner.plan(list(one.all_token_ids))
    assert len(scheduler.layout) == 0  # type: ignore[attr-defined]
    assert scheduler.kv_cache_manager.usage == 0.0


def test_a_request_the_policy_cannot_take_ends_alone(make: Make) -> None:
    good = [request(f"g{i}", ids(100, i), 5) for i in range(3)]
    bad = request("bad", [*ids(60, 9), IDS, *ids(60, 10)], 5)
    scheduler = make()
    steps, last = run(scheduler, [good[0], bad, *good[1:]])
    assert last["bad"].finish_reason == FinishReason.ERROR
    assert not any("bad" in step for step in steps)
    assert all(last[one.request_id].finish_reason == FinishReason.LENGTH for one in good)
    assert len(scheduler.layout) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("others", [0, 3])
def test_a_request_whose_answer_the_policy_cannot_take_ends_alone(
    make: Make, planner: Planner, others: int
) -> None:
    """The token is never run: nothing that was computed without a plan is told."""
    good = [request(f"g{i}", ids(100, i), 30, lockstep_segments=1) for i in range(others)]
    bad = request("bad", ids(60, 9), 30)
    scheduler = make()
    steps, last = run(
        scheduler,
        [*good, bad],
        says=lambda name, at: IDS if name == "bad" and at == 63 else None,
    )
    assert last["bad"].finish_reason == FinishReason.ERROR
    assert bad.num_output_tokens == 4
    assert max(step["bad"][1] for step in steps if "bad" in step) == 63
    for one in good:
        assert last[one.request_id].finish_reason == FinishReason.LENGTH
        told = last[one.request_id].kv_transfer_params["lockstep"]["segments"]
        assert [end for _, end in told] == planner.plan(list(one.all_token_ids))
    assert len(scheduler.layout) == 0  # type: ignore[attr-defined]
    assert scheduler.kv_cache_manager.usage == 0.0


def test_an_aborted_request_leaves_nothing(make: Make) -> None:
    from vllm.v1.request import RequestStatus

    scheduler = make(budget=48)
    scheduler.add_request(request("a", ids(400, 1), 5))
    scheduler.schedule()
    scheduler.finish_requests("a", RequestStatus.FINISHED_ABORTED)
    assert len(scheduler.layout) == 0  # type: ignore[attr-defined]
    assert scheduler.kv_cache_manager.usage == 0.0


def test_an_answer_ends_where_the_contract_says(make: Make, checkpoint: Path) -> None:
    scheduler = make()
    (end,) = read(checkpoint).document["tokenizer"]["ends"]
    free, held = request("free", ids(60, 1), 5), request("held", ids(60, 2), 5)
    free.sampling_params.ignore_eos = False
    free.sampling_params.stop_token_ids = [7]
    for one in (free, held):
        scheduler.add_request(one)
    assert free.sampling_params.stop_token_ids == sorted({end, 7})
    assert end in free.sampling_params.all_stop_token_ids
    assert not held.sampling_params.stop_token_ids


def test_what_prometheus_hears(make: Make, planner: Planner, checkpoint: Path) -> None:
    scheduler = make(budget=96)
    seen: list[Any] = []
    stats = SegmentStats(scheduler.vllm_config)

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"engine": "0", **labels})

    def watch(_: Step) -> None:
        scheduler.report._next = 0.0  # type: ignore[attr-defined]
        told = scheduler.make_stats()
        stats.record(told, None)
        seen.append((value("lockstep_kv_bytes"), value("lockstep_kv_bytes_full")))

    requests = [request(f"r{i}", ids(300, i), 30) for i in range(4)]
    _, last = run(scheduler, requests, watch=watch)
    stats.record(last["stats"], None)
    assert value("lockstep_contract_info", digest=read(checkpoint).digest) == 1
    assert value("lockstep_requests_total") == 4
    assert value("lockstep_segments_total") > 40
    assert value("lockstep_chunks_total", end="boundary") > 8
    open_ended = [one for one in requests if 300 not in planner.plan(one.prompt_token_ids)]
    assert value("lockstep_chunks_total", end="prompt") == len(open_ended) > 0
    assert value("lockstep_chunks_total", end="budget") is None
    # Three groups of one head in one "layer" stand here for a model of four layers of two heads.
    used, full = max(seen)
    assert 0 < used < full
    assert value("lockstep_kv_bytes") == 0
    for group in ("local", "bare", "pool"):
        assert value("lockstep_kv_blocks", group=group) == 0
