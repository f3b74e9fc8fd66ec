"""The quick selection under pressure, and the gap that explains another runtime's choice."""

from __future__ import annotations

import math

import pytest
import torch
from lockstep import LockstepError, retrieval

torch.set_num_threads(1)
RECIPES = ("anchors", "topk")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All scores by the plain arithmetic, then a stable sort."""
    scores = retrieval.exact_scores(queries[:, :, None], keys[:, None])
    values, order = scores.sort(dim=-1, descending=True, stable=True)
    return order[..., :k], values[..., :k]


@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("distinct", [1, 7, 3000])
@pytest.mark.parametrize("magnitude", [2e-20, 1.0, 1e15])
def test_best_equals_the_plain_arithmetic(precision: str, distinct: int, magnitude: float) -> None:
    keys = (random(2, distinct, 64) * magnitude)[:, torch.arange(3000) * 31 % distinct]
    queries = random(2, 16, 64, seed=1)
    torch.set_float32_matmul_precision(precision)
    try:
        positions, scores = retrieval.best(queries, keys, 16)
    finally:
        torch.set_float32_matmul_precision("highest")
    expected, values = naive(queries, keys, 16)
    assert torch.equal(positions, expected) and torch.equal(scores, values)


def test_nothing_finite_is_named() -> None:
    keys = random(1, 50, 8)
    keys[0, 7, 3] = torch.nan
    for recipe in RECIPES:
        with pytest.raises(LockstepError) as caught:
            retrieval.select(random(1, 9, 8), keys, 16, recipe)
        assert caught.value.code == "LS_RETRIEVAL_NONFINITE"


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_choice_has_no_gap(recipe: str) -> None:
    for keys in (random(2, 200, 8), random(2, 3, 8)[:, torch.arange(200) % 3]):
        queries = random(2, 20, 8, seed=2)
        own = retrieval.select(queries, keys, 32, recipe)
        assert retrieval.deciding_gap(queries, keys, 32, recipe, own) == 0.0


def test_topk_gap_is_the_score_difference() -> None:
    keys = torch.tensor([5.0, 1.0, 4.0, 3.5, 0.0])[None, :, None]
    one = torch.ones(1, 1, 1)
    gap = lambda *selected: retrieval.deciding_gap(one, keys, 2, "topk", torch.tensor([selected]))  # noqa: E731
    assert gap(0, 2) == 0.0 and gap(0, 3) == 0.5 and gap(2, 3) == 1.5 and gap(0, 4) == 4.0


def test_anchors_gap_is_the_score_difference() -> None:
    values = torch.zeros(60)
    values[[10, 30, 50]] = torch.tensor([5.0, 4.0, 3.75])
    keys, one = values[None, :, None], torch.ones(1, 1, 1)
    span = lambda *anchors: [[p for a in anchors for p in range(a - 3, a + 5)]]  # noqa: E731
    gap = lambda selected: retrieval.deciding_gap(one, keys, 16, "anchors", torch.tensor(selected))  # noqa: E731
    assert retrieval.select(one, keys, 16, "anchors").tolist() == span(10, 30)
    assert gap(span(10, 50)) == 0.25 and gap(span(30, 50)) == 1.25
    # Anchors 10 and, say, 3 bring the first 16; then 30 was passed over for a key of score 0.
    assert gap([list(range(16))]) == 4.0
    assert gap([[*range(15), 57]]) == math.inf


@pytest.mark.parametrize("recipe", RECIPES)
def test_perturbed_keys_are_explained_by_a_gap_of_their_size(recipe: str) -> None:
    """Scores move by at most |q|_1 times the noise, so pairs closer than twice that may swap."""
    changed = 0
    for seed in range(60):
        queries, keys = random(1, 24, 8, seed=seed), random(1, 400, 8, seed=100 + seed)
        noise = 2e-2 * random(1, 400, 8, seed=200 + seed).clamp(-1, 1)
        other = retrieval.select(queries, keys + noise, 64, recipe)
        gap = retrieval.deciding_gap(queries, keys, 64, recipe, other)
        changed += not torch.equal(other, retrieval.select(queries, keys, 64, recipe))
        assert gap <= 2 * 2e-2 * float(queries.abs().sum(-1).max())
    assert changed > 3


def test_what_no_gap_explains_is_infinite() -> None:
    queries, keys = random(1, 9, 8), random(1, 50, 8)
    for wrong in ([[0, 1]], [[3, 2, *range(4, 18)]], [[*range(15), 50]], [[*range(-1, 15)]]):
        for recipe in RECIPES:
            gap = retrieval.deciding_gap(queries, keys, 16, recipe, torch.tensor(wrong))
            assert gap == math.inf


@pytest.mark.parametrize("enters", [True, False])
def test_a_near_tie_that_changes_how_many_anchors_there_are(enters: bool) -> None:
    # Two query vectors and room for 32 anchors: a key that enters either's best 16 is one more.
    queries, keys = random(1, 8, 8, seed=5), random(1, 400, 8, seed=6)
    vector_D = retrieval.query_vectors(queries)[0, 0]
    scores_N = keys[0] @ vector_D
    order_N = scores_N.argsort(descending=True)
    last, nudge = order_N[15], 2e-5
    shift = (scores_N[order_N[16]] - scores_N[last] - nudge) / vector_D.square().sum()
    near, other = keys.clone(), keys.clone()
    near[0, last] += (shift + 2 * nudge / vector_D.square().sum()) * vector_D  # just inside
    other[0, last] += shift * vector_D  # just outside
    inside, outside = (retrieval.select(queries, k, 256, "anchors") for k in (near, other))
    assert not torch.equal(inside, outside)
    gap = (
        retrieval.deciding_gap(queries, other, 256, "anchors", inside)
        if enters
        else retrieval.deciding_gap(queries, near, 256, "anchors", outside)
    )
    assert 0 < gap <= 2 * nudge
