"""The bounds can fail: each small departure from SEMANTICS is caught by the parity check."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import lockstep.operator.state
import parity
import pytest
import torch
from lockstep import Model
from lockstep.contract.spec import Spec
from oracle.gradient import gradient
from parity import BOUNDS, RECIPES, distance, plain, spec, weights_of
from test_gradient import run
from test_gradient_oracle import relative
from tiny import text, tiny

CUTS = [5, 8, 22, 37]


def forms_against(given: Spec, other: Spec) -> float:
    """The operator under one spec from the reference under another."""
    module = tiny(seed=30)
    ids = text(44, 30)
    oracle = parity.reference.Oracle(weights_of(module), module.config, plain(other))
    logits, _, _ = oracle.forward(ids, CUTS)
    return distance(Model.from_module(module, given).logits(ids, CUTS), logits)


@pytest.mark.parametrize(
    "change",
    [
        {"carry": 5},
        {"carry": 7},
        {"carry": 0},
        {"sinks": 0},
        {"sinks": 3},
        {"sinks": 5},
        {"retrieval_size": 8},
        {"retrieval_size": 10},
        {"retrieval_size": 0},
        {"recipe": "topk"},
        {"retrieval_layers": (1,)},
        {"long_heads": ((1,), (1,), (0,))},
    ],
    ids=str,
)
def test_another_spec(change: dict) -> None:
    given = spec(tiny(), retrieval_size=9)
    assert forms_against(given, given) <= BOUNDS[torch.float64].reference
    assert forms_against(replace(given, **change), given) > 1e-3


@pytest.mark.parametrize(
    "change",
    [
        {"carry_heads": "local"},
        {"block": 8},
        {"distance": 12},
        {"window": 3},
        {"carry": 5},
        {"retrieval_size": 4},
        {"recipe": "topk"},
    ],
    ids=str,
)
def test_another_spec_of_blocks(change: dict) -> None:
    given = spec(tiny(), **RECIPES["blocks, all carry"])
    assert forms_against(given, given) <= BOUNDS[torch.float64].reference
    assert forms_against(replace(given, **change), given) > 1e-3


BLOCK_MUTANTS = {
    "queries at their own position": ("rotate", lambda rotate: lambda x, cos, sin: x),
    "no softmax over the pool": ("masses", lambda _: lambda q, k, block: summed(q, k, block)),
    "the lightest": ("heaviest", lambda heaviest: lambda m, *a: heaviest(-m, *a)),
}


def summed(q_HgQD: torch.Tensor, keys_HND: torch.Tensor, block: int) -> torch.Tensor:
    """Logits summed over a block, instead of probabilities."""
    logits_HN = (q_HgQD.flatten(1, 2) @ keys_HND.transpose(1, 2)).sum(1)
    return torch.stack([part.sum(-1) for part in logits_HN.split(block, -1)], -1)


@pytest.mark.parametrize("name", BLOCK_MUTANTS)
def test_another_choice_of_blocks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, mutant = BLOCK_MUTANTS[name]
    everywhere(monkeypatch, target, mutant)
    with pytest.raises(AssertionError):
        for seed in range(4):
            module = tiny(seed=31 + seed)
            given = spec(module, retrieval_layers=(0, 1, 2), **RECIPES["blocks"])
            parity.check(module, given, text(44, seed), CUTS)


def everywhere(monkeypatch: pytest.MonkeyPatch, name: str, mutant: Callable) -> None:
    """Replace a function or constant of the retrieval package wherever it was imported."""
    found = False
    for module in list(lockstep_modules()):
        if name in vars(module):
            original = getattr(module, name)
            monkeypatch.setattr(module, name, mutant(original))
            found = True
    assert found, name


def lockstep_modules() -> Iterator:
    package = importlib.import_module("lockstep.retrieval")
    for name in ("", ".select", ".scores", ".blocks"):
        try:
            yield importlib.import_module(package.__name__ + name)
        except ModuleNotFoundError:
            continue


def last_of_equals(best: Callable) -> Callable:
    """Ties to the higher position: search the reversed pool."""

    def mutant(queries_HQD, keys_HND, k):
        positions, scores = best(queries_HQD, keys_HND.flip(1), k)
        return keys_HND.shape[1] - 1 - positions, scores

    return mutant


RETRIEVAL_MUTANTS = {
    "one neighbour less": ("AFTER", lambda n: n - 1),
    "windows of seven": ("WINDOW", lambda n: n - 1),
    "stride of five": ("STRIDE", lambda n: n + 1),
    "one key a query vector": ("KEYS_PER_QUERY", lambda n: 1),
    "the last three queries": ("TAIL", lambda n: n - 1),
    "the group's sum": ("group_mean", lambda mean: lambda q: mean(q) * 1.5),
}


@pytest.mark.parametrize("name", RETRIEVAL_MUTANTS)
def test_another_retrieval(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target, mutant = RETRIEVAL_MUTANTS[name]
    everywhere(monkeypatch, target, mutant)
    with pytest.raises(AssertionError):
        for seed in range(4):
            module = tiny(seed=31 + seed)
            given = spec(module, retrieval_size=16, retrieval_layers=(0, 1, 2))
            parity.check(module, given, text(44, seed), CUTS)


@pytest.mark.parametrize(("recipe", "different"), [("topk", 5), ("anchors", 2)])
def test_ties_to_the_higher_position(
    recipe: str, different: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere(monkeypatch, "best", last_of_equals)
    with pytest.raises(AssertionError):
        for seed in range(4):
            module = tiny(seed=31 + seed)
            given = spec(module, recipe=recipe, retrieval_layers=(0,), max=32)
            parity.check(module, given, text(64, seed, repeat=different), [5, 28, 50])


def test_a_prefix_one_position_to_the_right(monkeypatch: pytest.MonkeyPatch) -> None:
    rotated = lockstep.operator.state.GroupState.rotated_prefix
    monkeypatch.setattr(
        lockstep.operator.state.GroupState,
        "rotated_prefix",
        lambda self, rope, base: rotated(self, rope, base + 1),
    )
    module = tiny(seed=35)
    with pytest.raises(AssertionError):
        parity.check(module, spec(module), text(44, 35), CUTS)


def test_ties_that_rounding_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without whole tiles the rows of a product differ, and repeated tokens no longer tie."""
    monkeypatch.setattr("lockstep.operator.batch_invariant.TILE", 1)
    caught = 0
    for seed in range(6):
        module = tiny(layers=2, seed=seed)
        given = spec(module, recipe="topk", retrieval_layers=(0,), long_heads=((0, 1), (0,)))
        try:
            parity.check(module, given, text(48, seed, repeat=3), [5, 8, 23, 37])
        except AssertionError:
            caught += 1
    if not caught:
        pytest.skip("this machine's matrix products treat all rows alike")


def test_gradients_of_another_carry_or_with_open_long_heads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = tiny(layers=2, seed=36)
    given = spec(module, carry=5, retrieval_layers=(0, 1))
    docs = [(text(20, 36), [4, 8, 12, 16])]
    _, _, expected = gradient(weights_of(module), module.config, plain(given), docs, 1)
    assert relative(run(module, given, docs, 1)[1], expected) <= 1e-12
    assert relative(run(module, replace(given, carry=6), docs, 1)[1], expected) > 1e-4
    assert relative(run(module, given, docs, 2)[1], expected) > 1e-4
    # Long heads' sinks as part of the graph.
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: self)
    try:
        open_graph = run(module, given, docs, 1)[1]
    except RuntimeError:
        return  # the graph was freed behind a boundary that gradient must not cross
    assert relative(open_graph, expected) > 1e-6


def test_gradients_with_a_long_heads_carry_held_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tiny(layers=2, seed=37)
    given = spec(module, retrieval_layers=(0, 1), **RECIPES["blocks, all carry"])
    docs = [(text(20, 37), [4, 8, 12, 16])]
    _, _, expected = gradient(weights_of(module), module.config, plain(given), docs, 1)
    assert relative(run(module, given, docs, 1)[1], expected) <= 1e-12
    crossed = lockstep.operator.state.GroupState.cross_boundary

    def held(self, k_HTD, v_HTD, start):
        if not self.group.local:
            k_HTD, v_HTD = k_HTD.detach(), v_HTD.detach()
        return crossed(self, k_HTD, v_HTD, start)

    monkeypatch.setattr(lockstep.operator.state.GroupState, "cross_boundary", held)
    assert relative(run(module, given, docs, 1)[1], expected) > 1e-6
