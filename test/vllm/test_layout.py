"""Segments of running requests: whatever way their tokens come, the cuts are the planner's."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkpoints
import numpy as np
import pytest
from lockstep.contract.planner import Planner
from lockstep.contract.reader import Contract, read
from lockstep.errors import LockstepError
from lockstep.vllm.layout import SegmentLayout
from lockstep.vllm.tracker import Tracker

IDS = 264


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    folder = tmp_path_factory.mktemp("layout")
    model = checkpoints.write_model(folder / "model")
    return read(checkpoints.attach(folder, model, policy="sums", least=3, most=40))


@pytest.fixture
def layout(contract: Contract) -> Any:
    layout = SegmentLayout(contract)
    yield layout
    layout.close()


def tokens(count: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(IDS) for _ in range(count)]


def test_many_requests_grow_at_once(contract: Contract, layout: SegmentLayout) -> None:
    draw = random.Random(1)
    whole = {f"r{i}": tokens(draw.randrange(1, 400), i) for i in range(40)}
    known = dict.fromkeys(whole, 0)
    while any(known[key] < len(ids) for key, ids in whole.items()):
        for key, ids in whole.items():
            if draw.random() < 0.6:
                known[key] = min(len(ids), known[key] + draw.choice((0, 1, 1, 1, 7, 64)))
        layout.advance([(key, whole[key][: known[key]]) for key in whole])
    planner = Planner(contract)
    for key, ids in whole.items():
        assert layout.ends(key) == planner.plan(ids)
        assert layout.seen(key) == len(ids)
    assert sum(map(len, map(layout.ends, whole))) > 200


def test_segment_of_a_position(layout: SegmentLayout) -> None:
    ids = tokens(300, 5)
    layout.advance([("a", ids)])
    ends = layout.ends("a")
    assert ends
    edges = [0, *ends]
    for start, end in zip(edges, ends, strict=False):
        assert layout.segment("a", start) == (start, end) == layout.segment("a", end - 1)
    assert layout.segment("a", 299) == (ends[-1], None)
    assert layout.segment("nobody", 7) == (0, None)


def test_other_tokens_under_the_same_name(contract: Contract, layout: SegmentLayout) -> None:
    first, second = tokens(200, 6), tokens(120, 7)
    layout.advance([("a", first)])
    layout.advance([("a", second)])
    assert layout.ends("a") == Planner(contract).plan(second) != Planner(contract).plan(first)


def test_forgotten_requests_leave_nothing(layout: SegmentLayout) -> None:
    for i in range(50):
        layout.advance([(f"r{i}", tokens(30, i))])
    layout.forget(f"r{i}" for i in range(50))
    layout.forget(["r1", "never"])
    assert len(layout) == 0 and layout.ends("r1") == []


def test_made_in_one_thread_used_in_another(contract: Contract, layout: SegmentLayout) -> None:
    ids = tokens(200, 8)
    layout.advance([("a", ids[:90])])

    def go_on() -> None:
        layout.advance([("a", ids)])

    thread = threading.Thread(target=go_on)
    thread.start()
    thread.join()
    assert layout.ends("a") == Planner(contract).plan(ids)


def test_a_fork_plans_again(contract: Contract, layout: SegmentLayout, tmp_path: Path) -> None:
    """vLLM forks its engine process; states of the parent's engine are not in the child."""
    first, second = tokens(200, 9), tokens(200, 10)
    layout.advance([("a", first[:90]), ("b", second[:150])])
    child = os.fork()
    if child == 0:
        layout.advance([("b", second)])
        layout.advance([("a", first)])
        (tmp_path / "child").write_text(repr((layout.ends("a"), layout.ends("b"))))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    layout.advance([("a", first), ("b", second)])
    planner = Planner(contract)
    expected = repr((planner.plan(first), planner.plan(second)))
    assert (
        (tmp_path / "child").read_text() == expected == repr((layout.ends("a"), layout.ends("b")))
    )


def test_one_request_fails_alone(contract: Contract, layout: SegmentLayout) -> None:
    """A token that the policy cannot take ends its request; its neighbours lose nothing."""
    good, bad = tokens(200, 11), [*tokens(50, 12), IDS]
    layout.advance([("good", good[:100]), ("bad", bad[:50])])
    layout.advance([("good", good), ("bad", bad)])
    assert list(layout.failed) == ["bad"]
    assert layout.failed["bad"].code == "LS_PLAN_TOKEN"
    assert layout.ends("good") == Planner(contract).plan(good)
    layout.advance([("bad", [*bad, 1])])
    layout.forget(["bad"])
    assert not layout.failed


def test_a_row_fails_alone_on_the_worker(contract: Contract) -> None:
    """Its neighbours keep their state; the row goes on in segments of the largest length."""
    block, blocks = 8, 20
    tracker = Tracker(contract, 3 * blocks * block, block, complete=False)
    rows = [tokens(130, 21), tokens(130, 22), tokens(130, 23)]
    rows[1][73] = IDS
    table = np.arange(3 * blocks).reshape(3, blocks)
    found: list[list[int]] = [[], [], []]
    for a, b in [(0, 50), (50, 70), *((at, at + 1) for at in range(70, 130))]:
        spans = tracker.cut(
            table,
            np.concatenate([np.arange(a, b) + n * blocks * block for n in range(3)]),
            np.array([0, b - a, 2 * (b - a), 3 * (b - a)]),
            np.array([b] * 3),
            np.concatenate([row[a:b] for row in rows]),
        )
        assert sum(span.b - span.a for span in spans) == 3 * (b - a)
        assert max(span.b - span.start for span in spans) <= 40
        for span in spans:
            found[span.row] += [span.b] if span.closes else []
    planner = Planner(contract)
    assert [found[0], found[2]] == [planner.plan(rows[0]), planner.plan(rows[2])]
    before = planner.plan(rows[1][:73])
    assert found[1] == [*before, *range(before[-1] + 40, 131, 40)] and before


def test_a_policy_that_loops_stops_everything(contract: Contract) -> None:
    source = contract.policy_source.replace("65521;", "65521; while (token === 9);")
    assert source != contract.policy_source
    looping: Any = SimpleNamespace(document=contract.document, policy_source=source)
    layout = SegmentLayout(looping)
    layout._planner.runtime._seconds = 0.2
    layout.advance([("a", [1, 2, 4])])
    with pytest.raises(LockstepError) as caught:
        layout.advance([("a", [1, 2, 4, 9])])
    assert caught.value.code == "LS_POLICY_LIMIT"
