"""Intervals of bench/: Student's t, as any statistics package gives it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
from stats import interval


@pytest.mark.parametrize(
    ("values", "digits", "expected"),
    [
        ([], 2, ""),
        ([1.5], 2, "1.50"),
        # s = 1, n = 3: 4.303 / sqrt(3) = 2.484
        ([1.0, 2.0, 3.0], 3, "2.000 ± 2.484"),
        # s = 2.160247, n = 7: 2.447 * 2.160247 / sqrt(7) = 1.998
        ([1, 2, 3, 4, 5, 6, 7], 3, "4.000 ± 1.998"),
    ],
)
def test_interval(values: list[float], digits: int, expected: str) -> None:
    assert interval(values, digits) == expected
