"""Sizes of a recipe that do not go together are refused."""

from __future__ import annotations

import pytest
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"retrieval_size": 4, "block": 8}, "LS_SPEC_BLOCK"),
        ({"retrieval_size": 12, "block": 8}, "LS_SPEC_BLOCK"),
        ({"window": 65}, "LS_SPEC_VALUE"),
        ({"window": 0}, "LS_SPEC_VALUE"),
        ({"block": 0}, "LS_SPEC_VALUE"),
        ({"distance": -1}, "LS_SPEC_VALUE"),
        ({"carry": 0, "carry_heads": "all"}, "LS_SPEC_CARRY"),
        ({"carry_heads": "long"}, "LS_SPEC_CARRY"),
        ({"recipe": "best"}, "LS_SPEC_RECIPE"),
    ],
)
def test_sizes_that_do_not_go_together(change: dict, code: str) -> None:
    good = {
        "max": 16, "carry": 4, "sinks": 4, "retrieval_size": 16, "recipe": "blocks",
        "retrieval_layers": (0,), "long_heads": ((0,),), "block": 8,
    }  # fmt: skip
    assert Spec.from_json(Spec(**good).to_json()) == Spec(**good)
    with pytest.raises(LockstepError) as caught:
        Spec(**good | change)
    assert caught.value.code == code
