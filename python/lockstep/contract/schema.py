"""A document against the JSON Schema of contracts, which the build makes from ``src/contract``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError

# What parameters and tables consist of: JSON without fractions.
_VALUE = "#/$defs/__schema0"
_SAFE = 2**53 - 1
_Draft = jsonschema.Draft202012Validator


def first_problem(schema: str, document: Any) -> ValidationError | None:
    """Why a document does not fit ``<schema>.schema.json``, most likely; None where it fits."""
    return jsonschema.exceptions.best_match(_validator(schema).iter_errors(document))


@cache
def _validator(name: str) -> jsonschema.protocols.Validator:
    schema = json.loads((Path(__file__).parent / f"{name}.schema.json").read_text("utf-8"))
    return jsonschema.validators.extend(_Draft, {"$ref": _reference})(schema)


def _reference(
    validator: Any, ref: str, instance: Any, schema: Mapping[str, Any]
) -> Iterator[ValidationError]:
    """jsonschema tries six alternatives for each of the ten thousand numbers of a table. This says
    first whether all is well; if not, jsonschema finds the place."""
    if ref != _VALUE or not is_value(instance):
        yield from _Draft.VALIDATORS["$ref"](validator, ref, instance, schema) or ()


def is_value(value: Any) -> bool:
    """Whether a value surely fits ``_VALUE``. False may be wrong: 1.0 is an integer there."""
    if isinstance(value, list):
        return all(map(is_value, value))
    if isinstance(value, dict):
        return all(map(is_value, value.values()))
    if type(value) is int:
        return -_SAFE <= value <= _SAFE
    return value is None or isinstance(value, bool | str)
