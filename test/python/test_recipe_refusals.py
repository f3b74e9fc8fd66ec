"""Runtimes that do not compute a contract's recipe refuse it; none serves other numbers."""

from __future__ import annotations

import pytest
from lockstep.contract import Contract
from lockstep.errors import LockstepError
from lockstep.spec import Spec
from lockstep.vllm.recipes import check_recipe

BLOCKS = {"size": 8, "recipe": "blocks", "layers": [0], "block": 4, "distance": 9, "window": 4}
TOPK = {"size": 8, "recipe": "topk", "layers": [0]}
CARRY = {"size": 4, "sinks": 4}


def document(retrieval: dict, carry: dict) -> dict:
    segment = {"min": 1, "max": 16, "align": 1}
    return {"segment": segment, "carry": carry, "retrieval": retrieval, "heads": {"long": [[0]]}}


@pytest.mark.parametrize(
    ("retrieval", "carry", "field"),
    [
        (BLOCKS, CARRY, "retrieval.recipe"),
        (BLOCKS, CARRY | {"heads": "all"}, "retrieval.recipe"),
        (TOPK, CARRY | {"heads": "all"}, None),
        (TOPK, CARRY, None),
        (TOPK, CARRY | {"heads": "local"}, None),
    ],
)
def test_vllm(retrieval: dict, carry: dict, field: str | None) -> None:
    contract = Contract(document(retrieval, carry), "")
    given = Spec.from_contract(contract)
    assert (given.recipe, given.carry_heads) == (retrieval["recipe"], carry.get("heads", "local"))
    if field is None:
        check_recipe(contract)
        return
    with pytest.raises(LockstepError) as caught:
        check_recipe(contract)
    assert (caught.value.code, caught.value.field) == ("LS_VLLM_FEATURE", field)


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
