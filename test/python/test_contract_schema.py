"""Contracts against their schema: the shortcut for tables says what jsonschema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from lockstep.contract import schema
from lockstep.contract.schema import first_problem

FOLDER = Path(schema.__file__).parent
LARGEST = 2**53 - 1
FIT: list[Any] = [{}, {"a": [1, -LARGEST, "x", None, True, {"b": []}]}, {"a": 1.0}, [1], "text", 0]
DO_NOT: list[Any] = [{"a": [1, 2.5]}, {"a": {"b": [[LARGEST + 1]]}}, 0.5, [[[-LARGEST - 1]]]]


def own(document: Any) -> list[tuple[list[Any], str]]:
    """What jsonschema alone finds: places and messages."""
    text = (FOLDER / "contract.schema.json").read_text("utf-8")
    found = jsonschema.Draft202012Validator(json.loads(text)).iter_errors(document)
    best = jsonschema.exceptions.best_match(found)
    return [] if best is None else [(list(best.absolute_path), best.message)]


@pytest.mark.parametrize("at", ["tables", "params"])
@pytest.mark.parametrize("value", FIT + DO_NOT)
def test_a_table_is_judged_as_jsonschema_judges_it(made: Path, value: Any, at: str) -> None:
    document = json.loads((made / "lockstep.json").read_text("utf-8"))
    assert own(document) == [] and first_problem("contract", document) is None
    if at == "tables":
        document["tables"] = value
    else:
        document["policy"]["params"] = {"own": value}
    problem = first_problem("contract", document)
    assert (problem is None) == (value in FIT)
    told = [] if problem is None else [(list(problem.absolute_path), problem.message)]
    assert told == own(document)
