"""The planner's reference itself, on cases small enough to do by hand."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from oracle.planner import boundaries, plan


def requests(text: str) -> list[bool]:
    return [character == "x" for character in text]


def test_max_forces_a_cut() -> None:
    assert boundaries(requests("........."), 1, 4) == [4, 8]


def test_a_request_cuts_after_its_token() -> None:
    assert boundaries(requests("..x.x...."), 1, 9) == [3, 5]
    assert boundaries(requests("xx"), 1, 9) == [1, 2]


def test_a_request_below_min_is_dropped_not_kept() -> None:
    assert boundaries(requests(".x......."), 3, 6) == [6]
    assert boundaries(requests("..x......"), 3, 6) == [3, 9]


def test_a_cut_waits_for_align_and_ignores_requests_meanwhile() -> None:
    # Length 5 asks; 8 is the next multiple of 4. The request at length 2 of the next is below min.
    assert boundaries(requests("....x....x......"), 4, 12, 4) == [8]
    assert boundaries(requests("....xx.x....x..."), 4, 12, 4) == [8, 16]
    assert boundaries(requests("...x............"), 4, 12, 4) == [4, 16]


def test_a_pending_cut_is_not_listed_before_it_is_reached() -> None:
    assert boundaries(requests("....x.."), 4, 12, 4) == []


def test_the_policy_is_told_of_cuts() -> None:
    told = []
    found = plan(range(9), lambda token: token == 1, 1, 4, cut=lambda: told.append("cut"))
    assert found == [2, 6] and told == ["cut", "cut"]


@given(
    st.lists(st.booleans(), max_size=80), st.integers(1, 4), st.integers(1, 4), st.integers(0, 4)
)
def test_every_closed_segment_fits(asked: list[bool], align: int, low: int, more: int) -> None:
    minimum, maximum = align * low, align * (low + more)
    found = boundaries(asked, minimum, maximum, align)
    edges = [0, *found]
    for a, b in pairwise(edges):
        assert minimum <= b - a <= maximum and (b - a) % align == 0
    assert len(asked) - edges[-1] < maximum
    for cut in range(len(asked)):  # no lookahead
        assert boundaries(asked[:cut], minimum, maximum, align) == [e for e in found if e <= cut]
