"""JSON files read as Node reads them: UTF-8 without a mark, no NaN.

Counterpart of src/json-text.ts.
"""

from __future__ import annotations

import json
from typing import Any

_EXACT = 2**53 - 1


def loads(data: bytes, *, literal: bool = False) -> Any:
    """A JSON document. Numbers are JavaScript's: ``4.0`` is the integer 4, an integer beyond 2^53
    a float. With ``literal`` they stay as they were written.

    Raises ``ValueError`` for what JSON.parse refuses.
    """
    text = data.decode("utf-8")
    hooks: dict[str, Any] = {} if literal else {"parse_float": _float, "parse_int": _int}
    try:
        return json.loads(text, parse_constant=_constant, **hooks)
    except RecursionError as error:
        raise ValueError("lists or objects nested too deep") from error


def number(value: float) -> float:
    """A number as JavaScript holds it: an integer wherever it is one."""
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else float(value)
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _float(text: str) -> float:
    return number(float(text))


def _int(text: str) -> float:
    # int() of a text of thousands of digits would refuse, float() does not.
    return number(int(text)) if len(text) < 20 else number(float(text))


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
