"""Which blocks the scheduler frees, which requests it ends, what it tells of segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lockstep.contract.planner import Planner
from lockstep.contract.reader import read
from lockstep.vllm.metrics import SegmentStats
from prometheus_client import REGISTRY
from scheduling import BLOCK, CARRY, IDS, MOST, Make, Step, ids, request, run
from scheduling import checkpoint as checkpoint
from scheduling import make as make
from scheduling import planner as planner
from vllm.v1.engine import FinishReason


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
