"""Retrieval (SEMANTICS section 4): hand-made cases, and product = naive reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep import retrieval as product
from oracle import retrieval as oracle

torch.set_num_threads(1)
RECIPES = ("anchors", "topk")


def both(queries: np.ndarray, keys: np.ndarray, size: int, recipe: str) -> list[list[int]]:
    """The product's choice, after it was found equal to the reference's."""
    expected = oracle.select(queries, keys, size, recipe)
    got = product.select(torch.from_numpy(queries), torch.from_numpy(keys), size, recipe)
    assert got.dtype == torch.int64
    assert got.shape == (len(keys), min(size, keys.shape[1]))
    assert got.tolist() == expected
    return expected


def column(values: list[float], dtype: type = np.float32) -> np.ndarray:
    """Keys of one head with D = 1. -> [1, N, 1]"""
    return np.array(values, dtype=dtype).reshape(1, -1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
class TestByHand:
    def test_topk_takes_the_last_query_and_the_lower_of_equals(self, dtype: type) -> None:
        keys = column([3, 5, 5, 1, 5], dtype)
        assert both(column([-1, 1], dtype), keys, 2, "topk") == [[1, 2]]
        assert both(column([1, -1], dtype), keys, 2, "topk") == [[0, 3]]

    def test_anchors_bring_their_neighbours_clamped_then_the_earliest(self, dtype: type) -> None:
        values = [0.0] * 40
        values[20], values[38] = 5, 4
        assert both(column([1], dtype), column(values, dtype), 16, "anchors") == [
            [0, 1, 2, *range(17, 25), *range(35, 40)]
        ]
        values[1] = 6  # -2, -1 are clamped to 0
        assert both(column([1], dtype), column(values, dtype), 24, "anchors") == [
            [*range(0, 11), *range(17, 25), *range(35, 40)]
        ]

    def test_overlapping_neighbours_count_once(self, dtype: type) -> None:
        values = [0.0] * 40
        values[20], values[22] = 5, 4
        assert both(column([1], dtype), column(values, dtype), 16, "anchors") == [
            [*range(0, 6), *range(17, 27)]
        ]

    @pytest.mark.parametrize("size", range(8))
    def test_below_eight_rows_there_is_no_anchor(self, dtype: type, size: int) -> None:
        values = [float(n) for n in range(30)]
        assert both(column([1] * 9, dtype), column(values, dtype), size, "anchors") == [
            list(range(size))
        ]

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_a_pool_of_at_most_r_rows_comes_whole(self, dtype: type, recipe: str) -> None:
        assert both(column([1], dtype), column([], dtype), 8, recipe) == [[]]
        assert both(column([1], dtype), column([], dtype), 0, recipe) == [[]]
        assert both(column([1], dtype), column([1, 2, 3], dtype), 3, recipe) == [[0, 1, 2]]
        assert both(column([1], dtype), column([1, 2, 3], dtype), 512, recipe) == [[0, 1, 2]]
        assert both(column([1], dtype), column([1, 2, 3], dtype), 0, recipe) == [[]]

    def test_equal_scores_everywhere_choose_the_earliest(self, dtype: type) -> None:
        keys = column([2.0] * 50, dtype)
        assert both(column([1] * 20, dtype), keys, 8, "anchors") == [[0, 1, 2, 3, 4, 5, 6, 7]]
        assert both(column([1] * 20, dtype), keys, 8, "topk") == [[0, 1, 2, 3, 4, 5, 6, 7]]
        # Two anchors, 0 and 1: 0..5; then the earliest again.
        assert both(column([1] * 20, dtype), keys, 16, "anchors") == [list(range(16))]


class TestQueryVectors:
    def starts(self, count: int) -> list[list[float]]:
        """Query vectors of queries 0, 1, 2, ...: their means betray which rows were averaged."""
        return [
            v.tolist() for v in oracle.query_vectors(np.arange(count, dtype=np.float64)[:, None])
        ]

    def test_full_windows_of_eight_at_stride_four_then_the_last_four(self) -> None:
        assert self.starts(20) == [[3.5], [7.5], [11.5], [15.5], [17.5]]
        assert self.starts(19) == [[3.5], [7.5], [11.5], [16.5]]
        assert self.starts(8) == [[3.5], [5.5]]
        assert len(self.starts(64)) == 15 + 1

    def test_short_segments(self) -> None:
        assert self.starts(7) == [[3.0], [4.5]]
        assert self.starts(4) == [[1.5], [1.5]]
        assert self.starts(3) == [[1.0]]
        assert self.starts(1) == [[0.0]]

    def test_a_key_taken_twice_keeps_its_best_score(self) -> None:
        # Window means: 1 (rows 0-7), then 10 (the last four, twice as a window of its own kind).
        queries = np.array([[1, 0]] * 4 + [[0, 1]] * 4, dtype=np.float32)[None]
        keys = np.zeros((1, 60, 2), dtype=np.float32)
        keys[0, 40] = (4, 0)  # best of the whole window's mean: 2
        keys[0, 50] = (0, 3)  # window 1.5, last four 3: its best is 3, above 2
        expected = [[*range(47, 55)]]
        assert both(queries, keys, 8, "anchors") == expected


class TestArithmetic:
    """Each rounding that SEMANTICS names decides one of these cases."""

    def test_products_are_rounded_to_float32(self) -> None:
        u = 1 + 2.0**-12
        queries = np.array([[[u, 1]]], dtype=np.float32)
        keys = np.array([[[0, 0], [u, -(1 + 2.0**-11)]]], dtype=np.float32)
        assert both(queries, keys, 1, "topk") == [[0]]  # exact products would give 2^-24 > 0
        wide = both(queries.astype(np.float64), keys.astype(np.float64), 1, "topk")
        assert wide == [[1]]

    def test_the_sum_is_float64(self) -> None:
        queries = np.ones((1, 1, 3), dtype=np.float32)
        keys = np.array([[[0.5, 0, 0], [2.0**25, 1, -(2.0**25)]]], dtype=np.float32)
        assert both(queries, keys, 1, "topk") == [[1]]  # a float32 sum would give 0

    def test_the_sum_runs_in_order(self) -> None:
        big = 2.0**60
        queries = np.ones((1, 1, 3), dtype=np.float32)
        keys = np.array([[[0.5, 0, 0], [big, 1, -big], [big, -big, 1]]], dtype=np.float32)
        assert both(queries, keys, 1, "topk") == [[2]]
        assert both(queries, keys, 2, "topk") == [[0, 2]]

    def test_scores_are_rounded_to_float32_before_comparing(self) -> None:
        queries = np.ones((1, 1, 2), dtype=np.float32)
        keys = np.array([[[1, 0], [1, 2.0**-30]]], dtype=np.float32)
        assert both(queries, keys, 1, "topk") == [[0]]
        assert both(queries.astype(np.float64), keys.astype(np.float64), 1, "topk") == [[1]]

    def test_negative_zero_equals_zero(self) -> None:
        queries = np.ones((1, 1, 1), dtype=np.float32)
        keys = column([-1, -0.0, 0.0, -1])
        assert both(queries, keys, 1, "topk") == [[1]]
        # A tiny negative sum rounds to -0.
        keys = np.array([[[-1e-38, 1e-38], [-1, 0], [0, 0]]], dtype=np.float32)
        assert both(np.full((1, 1, 2), 1e-38, np.float32), keys, 1, "topk") == [[0]]

    def test_means_are_float64_rounded_once(self) -> None:
        queries = np.array([2.0**25, 1, 1, -(2.0**25), 0, 0, 0, 0], dtype=np.float32)
        assert oracle.query_vectors(queries[:, None])[0].tolist() == [0.25]
        keys = column([0.0] * 30 + [1.0] + [0.0] * 9)
        assert both(queries.reshape(1, 8, 1), keys, 8, "anchors") == [[*range(27, 35)]]


@st.composite
def cases(draw: st.DrawFn):
    heads, dimension = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    count, pool = draw(st.integers(1, 64)), draw(st.integers(0, 120))
    size = draw(st.one_of(st.integers(0, 20), st.integers(0, 130)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    kind = draw(st.sampled_from(["normal", "integers", "repeated", "close", "cancelling"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries = rng.standard_normal((heads, count, dimension))
    keys = rng.standard_normal((heads, pool, dimension))
    if kind == "integers":  # many exact ties
        queries, keys = np.round(queries), np.round(keys)
    elif kind == "repeated" and pool:  # repeated tokens: whole keys tie exactly
        keys = keys[:, rng.integers(0, min(pool, 5), pool)]
    elif kind == "close" and pool:  # scores that differ by a few units in the last place
        keys = keys[:, :1] * (1 + 2.0**-24 * rng.integers(-8, 8, (heads, pool, dimension)))
    elif kind == "cancelling":  # scores far smaller than their terms
        keys = keys * 1e-4
        if dimension > 1:
            queries[..., 0], queries[..., 1] = 1000, 1000
            keys[..., 0] += 1000
            keys[..., 1] -= 1000
    return queries.astype(dtype), keys.astype(dtype), size, draw(st.sampled_from(RECIPES))


@settings(max_examples=400, deadline=None)
@given(cases())
def test_the_product_selects_what_the_reference_selects(case) -> None:
    both(*case)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("kind", ["close", "repeated", "cancelling"])
def test_a_large_pool_full_of_near_ties(recipe: str, kind: str) -> None:
    """A faster preselection must yield the same set."""
    rng = np.random.default_rng(11)
    heads, pool, dimension = 2, 4000, 64
    queries = rng.standard_normal((heads, 64, dimension)) * 3
    keys = rng.standard_normal((heads, pool, dimension)) * 3
    if kind == "close":
        keys = keys[:, :1] * (1 + 2.0**-24 * rng.integers(-4, 5, keys.shape))
    elif kind == "repeated":
        keys = keys[:, rng.integers(0, 9, pool)]
    else:
        queries[..., :2] = 1000
        keys = keys * 1e-3
        keys[..., 0] += 1000
        keys[..., 1] -= 1000
    for size in (64, 512):
        both(queries.astype(np.float32), keys.astype(np.float32), size, recipe)


def test_views_and_other_strides_are_read_right() -> None:
    rng = np.random.default_rng(5)
    queries = rng.standard_normal((20, 3, 8)).astype(np.float32).transpose(1, 0, 2)
    keys = rng.standard_normal((90, 3, 8)).astype(np.float32).transpose(1, 0, 2)
    for recipe in RECIPES:
        expected = oracle.select(queries, keys, 24, recipe)
        got = product.select(torch.from_numpy(queries), torch.from_numpy(keys), 24, recipe)
        assert got.tolist() == expected


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_perturbed_choice_is_explained_by_twice_the_perturbation(recipe: str) -> None:
    """Keys off by a little choose other rows; the deciding gap is no more than scores moved."""
    differing = 0
    for seed in (28, 30, 33, 69, 165):  # 69, 165: a key gains another query's score
        rng = np.random.default_rng(seed)
        queries = rng.standard_normal((1, int(rng.choice([8, 20, 64])), 8))
        keys = rng.standard_normal((1, int(rng.choice([200, 600])), 8))
        size = int(rng.choice([64, 128, 180]))
        moved = keys + 0.02 * rng.standard_normal(keys.shape)
        other = torch.tensor(oracle.select(queries, moved, size, recipe))
        vectors = [queries[0, -1]] if recipe == "topk" else oracle.query_vectors(queries[0])
        most = max(
            abs(a - b)
            for vector in vectors
            for (_, a), (_, b) in zip(
                oracle.scores(vector, keys[0]), oracle.scores(vector, moved[0]), strict=True
            )
        )
        gap = product.deciding_gap(
            torch.from_numpy(queries), torch.from_numpy(keys), size, recipe, other
        )
        same = other.tolist() == oracle.select(queries, keys, size, recipe)
        assert gap == 0 if same else gap <= 2 * most * (1 + 1e-9)
        differing += not same
    assert differing > 1
