"""Where the scheduler ends the chunks of a prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pytest
from lockstep.contract.planner import Planner
from scheduling import Make, Step, ids, request, run
from scheduling import checkpoint as checkpoint
from scheduling import make as make
from scheduling import planner as planner
from vllm.v1.request import Request


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
