"""Values of a row's fields, checked."""

from __future__ import annotations

import json
from typing import Any

from lockstep.chat import Unfit


def text(value: Any, name: str) -> str:
    """A field that holds text; null is none. Raises `Unfit`."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unfit(f"expected text in {name!r}, got {kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Unfit(f"half a surrogate pair at character {error.start + 1}") from error
    return value


def unpacked(value: Any) -> Any:
    """Tables of text hold lists as JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else None
    except (ValueError, RecursionError):
        return value


def kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
