"""The operator in float64: step by step = parallel = token by token = the independent reference.

Every test has cases of the default recipe (anchors) with A = 4.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from lockstep import Model
from oracle.model import Oracle
from parity import RECIPES, check, distance, plain, replacements, spec, stepped, weights_of
from tiny import ARCHITECTURES, ROPES, text, tiny

CUTS = [5, 8, 20, 33]
SUBSETS = ((), (0,), (1,), (0, 1))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_partition_of_two_layers(recipe: str) -> None:
    module = tiny(layers=2, seed=1, group=1)
    seen = set()
    for heads in product(SUBSETS, SUBSETS):
        given = spec(module, long_heads=heads, retrieval_layers=(0, 1), **RECIPES[recipe])
        result = check(module, given, text(36, 1), CUTS)
        assert result.mismatches == 0
        seen.add(tuple(result.logits[-1].tolist()))
    assert len(seen) == 16  # each partition computes something else


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("heads", [((0, 1, 2), (0, 2)), ((1,), (0, 1, 2)), ((0, 1), (2,))])
def test_heads_of_one_layer_that_take_unlike_numbers_of_rows(heads: tuple, recipe: str) -> None:
    """Blocks: some heads of a group take the pool's shorter last block, others do not."""
    module = tiny(layers=2, kv_heads=3, group=2, head_dim=4, seed=17)
    given = spec(module, long_heads=heads, retrieval_layers=(0, 1), carry=3, **RECIPES[recipe])
    result = check(module, given, text(56, 17), [9, 22, 26, 37, 41, 50])
    assert result.mismatches == 0
    counts = [
        {len(rows) for rows in layer} for at in result.retrieved.values() for layer in at.values()
    ]
    if recipe.startswith("blocks") and len(heads[0]) == 3:
        assert any(len(found) > 1 for found in counts)


@pytest.mark.parametrize("layers", [(), (0,), (1,)])
def test_long_heads_in_layers_with_and_without_a_pool(layers: tuple[int, ...]) -> None:
    module = tiny(layers=2, seed=2)
    for heads, recipe in product([((0,), (1,)), ((0, 1), (0, 1)), ((1,), ())], RECIPES):
        given = spec(module, long_heads=heads, retrieval_layers=layers, **RECIPES[recipe])
        assert check(module, given, text(36, 2), CUTS).mismatches == 0


THREE = [tuple(head for head in range(3) if bits >> head & 1) for bits in range(8)]


@pytest.mark.parametrize("long", THREE)
def test_every_partition_of_three_heads_with_groups_of_three(long: tuple[int, ...]) -> None:
    module = tiny(layers=2, kv_heads=3, group=3, head_dim=4, seed=3)
    for recipe in ("anchors", "blocks", "blocks, all carry"):
        given = spec(module, long_heads=(long, long), retrieval_layers=(1,), **RECIPES[recipe])
        assert check(module, given, text(30, 3), [7, 19]).mismatches == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rope", ROPES)
def test_architectures_and_rope_scalings(architecture: str, rope: str) -> None:
    bias, tied = rope in ("linear", "yarn"), rope in ("llama3", "yarn")
    module = tiny(architecture, rope=rope, bias=bias, tied=tied, seed=4)
    for recipe in ("anchors", "blocks, all carry"):
        given = spec(module, **RECIPES[recipe])
        assert check(module, given, text(36, 4), CUTS).mismatches == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_recipes_and_sinks(architecture: str) -> None:
    module = tiny(architecture, seed=5, bias=True)
    logits = []
    for recipe, sinks in product(RECIPES, (0, 4)):
        given = spec(module, **RECIPES[recipe] | {"sinks": sinks})
        result = check(module, given, text(36, 5), CUTS)
        assert result.mismatches == 0
        logits.append(result.logits)
    assert all(distance(a, b) > 1e-2 for i, a in enumerate(logits) for b in logits[:i])


@pytest.mark.parametrize("sinks", [0, 1, 4, 11, 60])
@pytest.mark.parametrize("carry", [0, 1, 6, 30, 60])
def test_sinks_and_carry(sinks: int, carry: int) -> None:
    """No carry, ones beyond a segment and beyond the text; sinks over several segments."""
    module = tiny(layers=2, seed=6)
    options = {"max": 13, "sinks": sinks, "carry": carry, "retrieval_layers": (1,)}
    for recipe in ("anchors", "blocks", "blocks, all carry" if carry else "topk"):
        given = spec(module, **RECIPES[recipe] | options)
        assert check(module, given, text(40, 6), [5, 8, 20, 33]).mismatches == 0


@pytest.mark.parametrize("size", [0, 1, 5, 7, 8, 9, 16, 25, 100])
@pytest.mark.parametrize("recipe", RECIPES)
def test_retrieval_sizes(size: int, recipe: str) -> None:
    module = tiny(layers=2, seed=7)
    block = next(b for b in (4, 3, 5, 7, 1) if size % b == 0)
    for sinks in (0, 4):
        options = {"retrieval_size": size, "sinks": sinks, "block": block}
        given = spec(module, retrieval_layers=(0, 1), **RECIPES[recipe] | options)
        result = check(module, given, text(44, 70), CUTS)
        assert result.mismatches == 0
        pool = given.eligible_at(33)
        shorter = -pool % block if recipe.startswith("blocks") and size < pool else 0
        heads = result.retrieved[33].get(1, [])
        assert all(len(rows) in {min(size, pool), size - shorter} for rows in heads)


@pytest.mark.parametrize(
    ("length", "cuts"),
    [
        (1, []),
        (1, [1]),
        (2, [1]),
        (3, [1, 2, 3]),
        (9, list(range(1, 10))),  # every segment one token, four of them sinks
        (12, [2, 3, 5]),  # segments shorter than the sinks
        (30, [4, 8, 12]),  # the first segment is just the sinks
        (30, [3, 19, 20, 29]),
        (30, [3, 19, 20, 30]),  # closed at the very end
        (16, []),
        (32, [16]),
        (40, [9, 10, 11, 12, 13, 14, 15, 31]),  # M reaches over many short segments
    ],
)
def test_segment_lengths(length: int, cuts: list[int]) -> None:
    module = tiny(layers=2, seed=8)
    for carry, sinks, recipe in (
        *((9, 4, "anchors"), (2, 0, "anchors"), (0, 4, "anchors")),
        *((9, 4, "blocks, all carry"), (2, 0, "blocks, all carry"), (0, 4, "blocks")),
    ):
        options = {"max": 18, "carry": carry, "sinks": sinks, "retrieval_layers": (0, 1)}
        given = spec(module, **RECIPES[recipe] | options)
        assert check(module, given, text(length, 8), cuts).mismatches == 0


@pytest.mark.parametrize("length", [63, 64, 65, 71])
def test_segments_around_the_queries_that_retrieval_looks_back_on(length: int) -> None:
    """Segments longer than 64 tokens use the last 64; a short one never reaches into the last."""
    module = tiny(layers=2, seed=9, group=3)
    cuts = [length, length + 3, length + 3 + 20]
    options = {"max": 128, "carry": 20, "retrieval_size": 24, "retrieval_layers": (0, 1)}
    for recipe in ("anchors", "blocks", "blocks, all carry"):
        given = spec(module, **RECIPES[recipe] | options)
        assert check(module, given, text(cuts[-1] + 6, 9), cuts).mismatches == 0


@pytest.mark.parametrize("different", [1, 2, 3, 5])
@pytest.mark.parametrize("recipe", RECIPES)
def test_repeated_tokens_tie_exactly_in_the_first_layer(different: int, recipe: str) -> None:
    """Equal tokens have equal keys in layer 0: positions must decide, not rounding."""
    for seed, architecture in enumerate(ARCHITECTURES):
        module = tiny(architecture, layers=2, seed=seed, bias=True)
        size = 8 if recipe.startswith("blocks") else 9
        given = spec(module, retrieval_layers=(0,), retrieval_size=size,
                     long_heads=((0, 1), (0,)), **RECIPES[recipe])  # fmt: skip
        ids, blocks = text(48, seed, repeat=different), recipe.startswith("blocks")
        # Masses are sums over many rows: equal blocks are near-ties, judged as such.
        result = check(module, given, ids, [5, 8, 23, 37], near_ties=blocks)
        assert blocks or result.mismatches == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_repeated_tokens_in_deeper_layers(recipe: str) -> None:
    for seed in range(3):
        module = tiny(seed=20 + seed)
        given = spec(module, retrieval_layers=(0, 1, 2), **RECIPES[recipe])
        ids, blocks = text(40, seed, repeat=3), recipe.startswith("blocks")
        result = check(module, given, ids, CUTS, near_ties=blocks)
        assert blocks or result.mismatches == 0


def test_one_head_of_attention_and_one_query_head_a_group() -> None:
    for kv_heads, group in ((1, 1), (1, 4), (4, 1)):
        module = tiny(layers=2, kv_heads=kv_heads, group=group, seed=10)
        for heads in (((0,), (0,)), ((), (0,))):
            given = spec(module, long_heads=heads, retrieval_layers=(1,))
            assert check(module, given, text(30, 10), [6, 17]).mismatches == 0


def test_other_positions_than_the_state_chose() -> None:
    """A runtime that is verified continues with the trainer's positions."""
    module = tiny(layers=2, seed=11)
    given = spec(module, retrieval_layers=(0, 1), long_heads=((0, 1), (1,)), retrieval_size=3)
    ids, cuts = text(36, 11), [10, 22]
    other = {
        10: {0: [[0, 3, 5], [1, 2, 4]], 1: [[2, 4, 5]]},
        22: {0: [[1, 9, 17], [0, 8, 16]], 1: [[3, 4, 17]]},
    }
    model = Model.from_module(module, given)
    oracle = Oracle(weights_of(module), module.config, plain(given))
    expected, _, _ = oracle.forward(ids, cuts, replacements(other))
    untouched, _, _ = oracle.forward(ids, cuts)
    state, rows = model.state(), []
    for start, end in ((0, 10), (10, 22), (22, 36)):
        rows.append(model.step(state, ids[start:end], rows="all"))
        if end in other:
            model.close(state)
            state.replace_retrieved({n: torch.tensor(p) for n, p in other[end].items()})
    assert distance(torch.cat(rows), expected) <= 1e-9
    assert distance(expected, untouched) > 1e-3


@pytest.mark.parametrize("recipe", RECIPES)
def test_documents_in_one_pass_are_as_each_alone(recipe: str) -> None:
    module = tiny(seed=12)
    options = RECIPES[recipe] | {"retrieval_layers": (0, 1, 2), "long_heads": ((0, 1),) * 3}
    model = Model.from_module(module, spec(module, **options))
    docs = [
        (text(33, 1), [5, 20]),
        (text(7, 2), []),
        (text(20, 3), [1, 2, 18, 20]),
        (text(1, 4), [1]),
    ]
    for (ids, cuts), packed in zip(docs, model.hidden_many(docs), strict=True):
        for form in ("parallel", "steps", "tokens"):
            assert distance(packed, model.hidden(ids, cuts, form=form)) <= 1e-10


def test_losses_are_those_of_the_logits() -> None:
    module = tiny(seed=13)
    given = spec(module)
    ids = text(36, 13)
    logits = check(module, given, ids, CUTS).logits
    expected = -torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    got = Model.from_module(module, given).nll(ids, CUTS)
    assert got.dtype == torch.float64 and distance(got, expected) <= 1e-9


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_float32_follows_the_reference_within_its_rounding(architecture: str) -> None:
    """Selections are still exact by SEMANTICS from the operator's own float32 queries and keys."""
    for recipe, repeat in product(RECIPES, (0, 3)):
        module = tiny(architecture, seed=14, dtype=torch.float32, rope="yarn")
        given = spec(module, retrieval_layers=(0, 1), **RECIPES[recipe])
        blocks = recipe.startswith("blocks")
        check(module, given, text(36, 14, repeat=repeat), CUTS, near_ties=blocks and repeat > 0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_forks_go_their_own_ways(recipe: str) -> None:
    module = tiny(seed=15)
    model = Model.from_module(module, spec(module, **RECIPES[recipe]))
    ids = text(40, 15)
    state = model.state()
    model.step(state, ids[:5])
    model.close(state)
    model.step(state, ids[5:12])
    fork = state.fork()
    ways = []
    for one, tail in ((state, ids[12:]), (fork, ids[:11:-1])):
        rows = [model.step(one, tail[:9], rows="all")]
        model.close(one)
        rows.append(model.step(one, tail[9:18], rows="all"))
        ways.append(torch.cat(rows))
    for tail, got in zip((ids[12:], ids[:11:-1]), ways, strict=True):
        expected, _ = stepped(model, ids[:12] + tail[:18], [5, 21], 3)
        assert distance(got, expected[12:]) <= 1e-10
