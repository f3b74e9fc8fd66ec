"""Recipe blocks (SEMANTICS section 4): hand-made cases, product = naive reference, near-ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lockstep import LockstepError
from lockstep import retrieval as product
from lockstep.operator.ragged import Ragged
from lockstep.operator.rope import Rope, rotate
from lockstep.retrieval import blocks
from oracle import retrieval as oracle

torch.set_num_threads(1)
CLOSE = {torch.float32: 2e-5, torch.float64: 1e-12}


def selected(queries: torch.Tensor, keys: torch.Tensor, size: int, block: int) -> list[list[int]]:
    return product.listed(product.select(queries, keys, size, "blocks", block))


def masses(queries_gQD: torch.Tensor, keys_ND: torch.Tensor, block: int) -> list[float]:
    logits = queries_gQD.flatten(0, 1).double() @ keys_ND.double().T
    return oracle.block_masses(logits.numpy(), block)


def column(*logits: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One head, one query of 1, keys [1, N, 1] that are their logits."""
    return torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.tensor(logits, dtype=torch.float64)[
        None, :, None
    ]


def test_whole_blocks_by_mass_not_by_their_best_row() -> None:
    queries, keys = column(3, 0, 0, 2.6, 2.6, 0, 0, 0, 0)
    assert selected(queries, keys, 3, 3) == [[3, 4, 5]]  # e^2.6 + e^2.6 + 1 > e^3 + 2
    assert selected(queries, keys, 6, 3) == [[0, 1, 2, 3, 4, 5]]


def test_the_last_block_may_be_shorter_and_leaves_fewer_rows() -> None:
    queries, keys = column(0, 0, 0, 1, 0, 0, 5)
    positions = product.select(queries, keys, 3, "blocks", 3)
    assert positions.tolist() == [[6]]
    assert selected(queries, keys, 6, 3) == [[3, 4, 5, 6]]


def test_heads_with_unlike_numbers_of_rows_are_filled_in_front() -> None:
    keys = torch.zeros(2, 7, 1, dtype=torch.float64)
    keys[0, 6], keys[1, 0] = 5, 5
    positions = product.select(torch.ones(2, 1, 1, 1).double(), keys, 3, "blocks", 3)
    assert positions.tolist() == [[-1, -1, 6], [0, 1, 2]]
    assert torch.equal(product.padded(product.listed(positions)), positions)


def test_equal_masses_go_to_the_lower_block() -> None:
    queries, keys = column(*[1.0] * 12)
    assert selected(queries, keys, 8, 4) == [list(range(8))]


def test_every_query_has_its_own_softmax() -> None:
    """A query with large logits counts no more than another."""
    keys = torch.tensor([[9.0, 0], [0, 1], [0, 1], [0, 1]]).double()[None]
    queries = torch.tensor([[1.0, 0], [0, 3], [0, 3]]).double()[None, None]
    assert selected(queries, keys, 1, 1) == [[0]]  # 1 of 3, against 2/3 over three rows
    assert selected(queries, keys, 3, 1) == [[0, 1, 2]]


def test_at_most_r_rows_come_whole() -> None:
    queries, keys = column(3, 1, 2)
    for size in (3, 4, 512):
        assert product.select(queries, keys, size, "blocks", 1).tolist() == [[0, 1, 2]]
    assert product.select(queries, keys[:, :0], 4, "blocks", 4).shape == (1, 0)
    assert product.select(queries, keys, 0, "blocks", 4).shape == (1, 0)


@pytest.mark.parametrize("distance", [0, 11, 128])
def test_only_the_query_is_rotated(distance: int) -> None:
    """q at Delta and k at 0 under a rotation with a factor, times the attention scale."""
    rope = Rope(torch.tensor([1.0, 0.1, 0.01]), 1.25, torch.float64, torch.device("cpu"))
    seeds = torch.Generator().manual_seed(0)
    q, k = (torch.randn(6, generator=seeds, dtype=torch.float64) for _ in range(2))
    there, here = (rotate(x[None], *rope.rows(at, at + 1)) for x, at in ((q, distance), (k, 0)))
    asked = product.at_distance(q[None, None, None], rope, distance, 0.3)
    expected = float(there[0] @ here[0]) * 0.3
    assert abs(float(asked[0, 0, 0] @ k) - expected) < 1e-12


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([torch.float32, torch.float64]))
def test_the_product_selects_what_the_reference_selects(seed: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    heads, group, count, dim = (int(n) for n in rng.integers(1, [4, 4, 20, 9]))
    rows, block = int(rng.integers(1, 150)), int(rng.integers(1, 40))
    size = block * int(rng.integers(0, 6))
    scale = float(rng.choice([0.3, 3.0]))
    queries, keys = (
        torch.from_numpy(rng.standard_normal(shape) * scale).to(dtype)
        for shape in ((heads, group, count, dim), (heads, rows, dim))
    )
    got = selected(queries, keys, size, block)
    for own, queries_gQD, keys_ND in zip(got, queries, keys, strict=True):
        mass = masses(queries_gQD, keys_ND, block)
        if own == oracle.choose_blocks(mass, rows, size, block):
            continue
        blocks = {n // block for n in own}
        assert own == [n for n in range(rows) if n // block in blocks]
        out = max(m for b, m in enumerate(mass) if b not in blocks)
        assert out - min(mass[b] for b in blocks) <= CLOSE[dtype] * out


def test_chunks_of_keys_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = torch.Generator().manual_seed(1)
    queries, keys = torch.randn(5, 2, 8, 4, generator=seeds), torch.randn(5, 90, 4, generator=seeds)
    whole = product.masses(queries, keys, 8)
    monkeypatch.setitem(blocks.CHUNK, "cpu", 1)
    assert (product.masses(queries, keys, 8) - whole).abs().max() < 1e-6


def test_reduced_precision_of_products_is_not_used() -> None:
    seeds = torch.Generator().manual_seed(2)
    queries, keys = (
        torch.randn(2, 2, 8, 64, generator=seeds),
        torch.randn(2, 90, 64, generator=seeds),
    )
    exact = product.masses(queries.double(), keys.double(), 8)
    torch.set_float32_matmul_precision("medium")
    try:
        assert (product.masses(queries, keys, 8) - exact).abs().max() < 1e-5
    finally:
        torch.set_float32_matmul_precision("highest")


def test_nothing_finite_is_named() -> None:
    queries, keys = column(*range(9))
    keys[0, 7] = torch.nan
    with pytest.raises(LockstepError) as caught:
        product.select(queries, keys, 4, "blocks", 2)
    assert caught.value.code == "LS_RETRIEVAL_NONFINITE"


class TestGap:
    def gap(self, *other: int, size: int = 2) -> float:
        # Masses 4, 2, 2, 1, 0.5 (of their sum).
        logits = [math.log(m) for m in (2, 2, 1, 1, 1, 1, 0.5, 0.5, 0.5)]
        queries, keys = column(*logits)
        return product.deciding_gap(queries, keys, size, "blocks", torch.tensor([other]), 2)

    def test_it_is_the_relative_difference_of_masses(self) -> None:
        assert self.gap(0, 1) == 0
        assert abs(self.gap(2, 3) - 0.5) < 1e-12
        assert abs(self.gap(0, 1, 6, 7, size=4) - 0.5) < 1e-12
        assert abs(self.gap(0, 1, 4, 5, size=4)) < 1e-12  # two equal blocks
        assert abs(self.gap(0, 1, 8, size=4) - 0.75) < 1e-12  # the shorter last one

    def test_what_are_no_whole_blocks_is_infinite(self) -> None:
        for other in ((0,), (0, 2), (1, 2), (1, 0), (0, 1, 2, 3), (-1, 9), (10, 11)):
            assert self.gap(*other) == math.inf
        assert self.gap(*range(9), size=10) == 0
        assert self.gap(*range(8), size=10) == math.inf

    def test_keys_moved_a_little_are_explained_by_as_much(self) -> None:
        changed = 0
        for seed in range(40):
            seeds = torch.Generator().manual_seed(seed)
            queries = torch.randn(1, 2, 8, 8, generator=seeds)
            keys = torch.randn(1, 200, 8, generator=seeds)
            moved = keys + 5e-2 * torch.randn(1, 200, 8, generator=seeds).clamp(-1, 1)
            own = product.select(queries, keys, 48, "blocks", 4)
            other = product.select(queries, moved, 48, "blocks", 4)
            changed += not torch.equal(own, other)
            gap = product.deciding_gap(queries, keys, 48, "blocks", other, 4)
            # A logit moves by at most |q|_1 / 20, a mass by that at either end of its fraction.
            assert gap <= 2e-1 * float(queries.abs().sum(-1).max())
        assert changed > 3


def test_more_than_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="two lengths"):
        Ragged.of(torch.tensor([[-1, -1, 3], [-1, 2, 3], [1, 2, 3]]))
    assert Ragged.of(torch.tensor([[1, 2], [0, 5]])) is None
