"""A sequence's cuts and numbers do not depend on what else is served: 8 at a time against alone.

Random policies with state, through policy.js as a checkpoint carries it; on the torch operator, on
the scheduler's layout and on the worker's tracker of vLLM. ``LOCKSTEP_INTERLEAVING`` is the number
of policies (a few by default; 1000 for the whole claim), ``LOCKSTEP_INTERLEAVING_SEED`` draws
others, and ``LOCKSTEP_POLICIES`` names a file of policies to take instead, as
test/helpers/print-policies.ts prints them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lockstep import Model, Spec
from lockstep.contract.planner import Planner
from lockstep.contract.policy import PolicyRuntime
from lockstep.vllm.layout import SegmentLayout
from lockstep.vllm.tracker import Tracker
from tiny import tiny

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[2]
COUNT = int(os.environ.get("LOCKSTEP_INTERLEAVING", "12"))
SEED = int(os.environ.get("LOCKSTEP_INTERLEAVING_SEED", "1"))
TOGETHER, LONGEST, MOST = 8, 120, 16  # sequences, their tokens, tokens a step

Ids = list[int]
#: Sequence, and its tokens [start, end): one turn of a serving engine.
Turn = tuple[int, int, int]


@pytest.fixture(scope="module")
def policies() -> list[Any]:
    """What planners are made of: `document` and `policy_source` of each policy."""
    given = os.environ.get("LOCKSTEP_POLICIES")
    if given:
        lines = Path(given).read_text("utf-8").splitlines()[:COUNT]
    else:
        node = shutil.which("node") or "node"
        script = ROOT / "test/helpers/print-policies.ts"
        command = [node, "--import", "tsx", str(script), str(COUNT), str(SEED)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lines = run.stdout.splitlines()
    assert len(lines) == COUNT
    return [
        SimpleNamespace(document=one["document"], policy_source=one["policySource"])
        for one in map(json.loads, lines)
    ]


def served(number: int, policy: Any) -> tuple[list[Ids], list[Turn]]:
    """Sequences and a random order of their turns, each sequence's own in order."""
    draw = random.Random(SEED * 1_000_003 + number)
    size = policy.document["tokenizer"]["size"]
    # Few ids in some sequences, so that policies with memory meet the same token again.
    kinds = [draw.choice((3, 12, size)) for _ in range(TOGETHER)]
    sequences = [
        [draw.randrange(min(kind, size)) for _ in range(draw.randrange(1, LONGEST))]
        for kind in kinds
    ]
    at, turns = [0] * TOGETHER, []
    while going := [n for n in range(TOGETHER) if at[n] < len(sequences[n])]:
        n = draw.choice(going)
        end = min(len(sequences[n]), at[n] + draw.randrange(1, MOST))
        turns.append((n, at[n], end))
        at[n] = end
    return sequences, turns


def of(n: int, turns: Sequence[Turn]) -> list[Turn]:
    return [turn for turn in turns if turn[0] == n]


def alone(policy: Any, tokens: Ids) -> Ids:
    """Cuts of one sequence in a runtime that never saw another."""
    planner = Planner(policy)
    try:
        return planner.plan(tokens)
    finally:
        planner.close()


def cases(policies: Sequence[Any]) -> Iterator[tuple[Any, list[Ids], list[Turn], list[Ids]]]:
    cuts = 0
    for number, policy in enumerate(policies):
        sequences, turns = served(number, policy)
        expected = [alone(policy, tokens) for tokens in sequences]
        cuts += sum(map(len, expected))
        yield policy, sequences, turns, expected
    assert cuts > 4 * len(policies)


def test_the_schedulers_layout(policies: list[Any]) -> None:
    for policy, sequences, turns, expected in cases(policies):
        layout = SegmentLayout(policy)
        known: dict[str, Ids] = {}
        for turn, (n, _, end) in enumerate(turns):
            known[str(n)] = sequences[n][:end]
            # Several requests in one call, as a step has them; some are told nothing new.
            if turn % 3 == 0 or turn == len(turns) - 1:
                layout.advance(known.items())
        assert [layout.ends(str(n)) for n in range(TOGETHER)] == expected
        assert not layout.failed


def test_the_workers_tracker(policies: list[Any]) -> None:
    block = 4
    blocks = -(-LONGEST // block)
    for policy, sequences, turns, expected in cases(policies):
        tracker = Tracker(policy, TOGETHER * blocks * block, block, complete=True)
        found: list[Ids] = [[] for _ in sequences]
        step: list[Turn] = []
        for turn in [*turns, None]:
            if turn is not None and turn[0] not in [n for n, _, _ in step] and len(step) < 3:
                step.append(turn)
                continue
            _track(tracker, step, sequences, blocks, block, found)
            step = [turn] if turn is not None else []
        assert found == expected


def _track(
    tracker: Tracker,
    step: Sequence[Turn],
    sequences: list[Ids],
    blocks: int,
    block: int,
    found: list[Ids],
) -> None:
    """One step with a row for each turn; sequence n owns the blocks from n * blocks on."""
    counts = [end - start for _, start, end in step]
    pieces = tracker.cut(
        np.array([np.arange(n * blocks, (n + 1) * blocks) for n, _, _ in step]),
        np.concatenate([n * blocks * block + np.arange(start, end) for n, start, end in step]),
        np.array([0, *np.cumsum(counts)]),
        np.array([end for _, _, end in step]),
        np.concatenate([sequences[n][start:end] for n, start, end in step]),
    )
    for piece in pieces:
        if piece.closes:
            found[step[piece.row][0]].append(piece.b)


def test_the_torch_operator(policies: list[Any]) -> None:
    module = tiny(
        layers=2, seed=3, kv_heads=2, group=1, head_dim=4, dtype=torch.float32, vocabulary=64
    )
    for policy, sequences, turns, expected in cases(policies):
        most = policy.document["segment"]["max"]
        spec = Spec(
            max=most,
            carry=3,
            sinks=2,
            retrieval_size=4,
            recipe="topk",
            retrieval_layers=(1,),
            long_heads=((0,), (1,)),
        )
        model = Model.from_module(module, spec)
        together = Served(model, policy)
        for n, start, end in turns:
            together.take(n, sequences[n][start:end])
        together.planner.close()
        assert [together.cuts[n] for n in range(TOGETHER)] == expected
        for n in range(TOGETHER):
            single = Served(model, policy)
            for _, start, end in of(n, turns):
                single.take(n, sequences[n][start:end])
            single.planner.close()
            assert torch.equal(torch.cat(together.logits[n]), torch.cat(single.logits[n]))


class Served:
    """The torch operator with one planner, any number of sequences open."""

    def __init__(self, model: Model, policy: Any):
        self.model, self.planner = model, Planner(policy)
        self.states: dict[int, Any] = {}
        self.segmenters: dict[int, Any] = {}
        self.cuts: dict[int, Ids] = {}
        self.logits: dict[int, list[torch.Tensor]] = {}

    def take(self, n: int, tokens: Ids) -> None:
        if n not in self.states:
            self.states[n], self.segmenters[n] = self.model.state(), self.planner.segmenter()
            self.cuts[n], self.logits[n] = [], []
        state, at = self.states[n], 0
        begin = state.position
        for cut in [*self.segmenters[n].push_many(tokens), None]:
            end = len(tokens) if cut is None else cut - begin
            if end > at:
                self.logits[n].append(self.model.step(state, tokens[at:end], rows="all"))
                at = end
            if cut is not None:
                self.model.close(state)
                self.cuts[n].append(cut)


@pytest.mark.parametrize("check", [test_the_schedulers_layout, test_the_workers_tracker])
def test_sequences_that_share_a_state_are_seen(
    policies: list[Any], monkeypatch: pytest.MonkeyPatch, check: Callable[[list[Any]], None]
) -> None:
    """The harness can fail: tokens of a step go to the state of its first sequence."""
    right = PolicyRuntime.push_many

    def mixed(self: PolicyRuntime, pushes: list[tuple[int, Ids]]) -> list[Ids]:
        return right(self, [(pushes[0][0], ids) for _, ids in pushes])

    monkeypatch.setattr(PolicyRuntime, "push_each", mixed)
    with pytest.raises(AssertionError):
        check(policies[:3])
