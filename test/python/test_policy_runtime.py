"""The policy's engine in Python: threads, forks, batches; the planner's rule against the oracle."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep.contract.planner import Planner, plan, push_batch
from lockstep.contract.policy import PolicyRuntime
from lockstep.errors import LockstepError
from oracle.planner import plan as reference

ROOT = Path(__file__).resolve().parents[2]

BUNDLE = """
import { bundlePolicy } from './dist/contract/bundle.js';
import { delimiters } from './dist/policies/index.js';
const { source } = await bundlePolicy(delimiters({ tokens: [1] }));
process.stdout.write(source);
"""
TABLES = {"tokens": [1], "strings": None}


@pytest.fixture(scope="module")
def source() -> str:
    """policy.js of a policy that asks for a cut after token 1."""
    command = ["node", "--input-type=module", "-e", BUNDLE]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def contract(source: str, **segment: int) -> Any:
    document = {
        "policy": {"name": "delimiters"},
        "tables": TABLES,
        "segment": {"min": 1, "max": 8, "align": 1} | segment,
        "tokenizer": {"size": 10},
    }
    return SimpleNamespace(document=document, policy_source=source)


@pytest.fixture
def planner(source: str) -> Any:
    planner = Planner(contract(source))
    yield planner
    planner.close()


def test_plan_lists_decided_cuts_only(source: str) -> None:
    assert plan(contract(source), [0, 1, 0, 0, 1, 0]) == [2, 5]
    assert plan(contract(source), []) == []
    assert plan(contract(source, max=3), [0] * 7) == [3, 6]


def test_segmenter_knows_where_it_stands(planner: Planner) -> None:
    segmenter = planner.segmenter()
    assert [segmenter.push(token) for token in (0, 1, 0)] == [False, True, False]
    assert (segmenter.position, segmenter.open_length) == (3, 1)
    fork = segmenter.fork()
    assert fork.push_many([0, 1]) == [5]
    assert segmenter.push(1) and segmenter.position == 4
    assert json.loads(fork.snapshot())["position"] == 5
    fork.close()
    fork.close()
    with pytest.raises(LockstepError) as error:
        fork.push(0)
    assert error.value.code == "LS_PLAN_CLOSED"


def test_the_rule_is_the_oracles(source: str) -> None:
    runtimes: dict[tuple[int, int, int], PolicyRuntime] = {}

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.sampled_from([0, 0, 0, 1]), max_size=80),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(0, 3),
    )
    def check(tokens: list[int], align: int, low: int, more: int) -> None:
        minimum, maximum = align * low, align * (low + more)
        limits = {"min": minimum, "max": maximum, "align": align}
        key = (minimum, maximum, align)
        runtime = runtimes.setdefault(key, PolicyRuntime(source, TABLES, limits, vocabulary=2))
        expected = reference(tokens, lambda token: token == 1, minimum, maximum, align)
        assert runtime.push(runtime.open(), tokens) == expected

    check()
    for runtime in runtimes.values():
        runtime.close()


def test_many_sequences_in_one_call(planner: Planner) -> None:
    segmenters = [planner.segmenter() for _ in range(300)]
    tokens = [[0] * (i % 7) + [1] for i in range(300)]
    assert push_batch(segmenters, tokens) == [[i % 7 + 1] for i in range(300)]
    assert push_batch(segmenters[:2], [[0] * 20_000, []]) == [
        list(range(9, 20_002, 8)),
        [],
    ]
    assert push_batch([], []) == []


def test_each_sequence_fails_alone(planner: Planner) -> None:
    """Wherever the bad tokens stand in the call, and whatever lies before them in its batch."""
    runtime = planner.runtime
    for bad in ([0], [3, 4, 9], [11], list(range(12)), []):
        handles = [runtime.open() for _ in range(12)]
        first = [[0] * (i % 5) + [1, 0, 0] for i in range(12)]
        runtime.push_many(list(zip(handles, first, strict=True)))
        long = [[0, 0, 1] * (4000 if i in (2, 10) else i) for i in range(12)]
        for i in bad:
            long[i] = [0, 1, 10, 0]
        found = runtime.push_each(list(zip(handles, long, strict=True)))
        for i, cuts in enumerate(found):
            if i in bad:
                assert isinstance(cuts, LockstepError) and cuts.code == "LS_PLAN_TOKEN"
                assert "(id 10)" in cuts.message
                with pytest.raises(LockstepError, match="closed or failed"):
                    runtime.push(handles[i], [0])
                continue
            whole = planner.plan([*first[i], *long[i], 0, 1])
            before = planner.plan(first[i])
            assert [*before, *cuts, *runtime.push(handles[i], [0, 1])] == whole
    # What a policy cannot be asked at all, and a sequence that was closed.
    one, two = runtime.open(), runtime.open()
    runtime.free(one)
    closed, cuts, large = runtime.push_each([(one, [0]), (two, [0, 1]), (runtime.open(), [2**31])])
    assert isinstance(closed, LockstepError) and closed.code == "LS_PLAN_CLOSED"
    assert isinstance(large, LockstepError) and large.code == "LS_PLAN_TOKEN"
    assert cuts == [2]
    assert runtime.push_each([]) == []


def test_any_thread_may_call(planner: Planner) -> None:
    tokens = [0, 0, 1] * 5000
    expected, results = planner.plan(tokens), []
    segmenter = planner.segmenter()

    def work() -> None:
        results.append(planner.plan(tokens) == expected)

    threads = [threading.Thread(target=work) for _ in range(8)]
    threads.append(threading.Thread(target=lambda: results.append(segmenter.push(1))))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 9 and segmenter.position == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_plans_too(planner: Planner) -> None:
    segmenter = planner.segmenter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            segmenter.push(0)
        except LockstepError as error:
            closed = error.code == "LS_PLAN_CLOSED"
            status = 0 if closed and planner.plan([0, 1, 0]) == [2] else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert segmenter.push(1)


@pytest.mark.parametrize("bad", [[10], [-1], [2**31], [2**53], [1.0], ["1"], [None]])
def test_tokens_outside_the_vocabulary_are_refused(planner: Planner, bad: list[Any]) -> None:
    with pytest.raises(LockstepError) as error:
        planner.plan([0, *bad])
    assert error.value.code == "LS_PLAN_TOKEN"
    assert planner.plan([1]) == [1]


def test_a_closed_planner_says_so(source: str) -> None:
    planner = Planner(contract(source))
    planner.close()
    planner.close()
    with pytest.raises(LockstepError) as error:
        planner.plan([0])
    assert error.value.code == "LS_PLAN_CLOSED"


def test_a_planner_gives_its_engine_back(source: str) -> None:
    planner = Planner(contract(source))
    planner.plan([0, 1, 0])
    engine = weakref.ref(planner.runtime._engine)
    del planner
    # By reference counting: each engine reserves 4 GiB of addresses, and no collection may come.
    assert engine() is None


def test_planners_share_one_thread(source: str) -> None:
    for _ in range(3):
        Planner(contract(source)).plan([0, 1])  # dropped without close()
    names = [one.name for one in threading.enumerate() if one.name.startswith("lockstep-policy-")]
    assert names == ["lockstep-policy-clock"]


def test_a_busy_process_uses_up_no_limit(source: str) -> None:
    """Limits are of the wall clock and of one token; a busy machine must not end a plan."""
    busy = threading.Event()

    def burn() -> None:
        import hashlib

        while not busy.is_set():
            hashlib.sha256(bytes(1 << 20))

    threads = [threading.Thread(target=burn) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        planner = Planner(contract(source), seconds=1.0)
        assert len(planner.plan([0] * 400_000)) == 50_000
        planner.close()
    finally:
        busy.set()
        for thread in threads:
            thread.join()
