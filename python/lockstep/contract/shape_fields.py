"""Fields of a config.json, each as the kind that it has to be (counterpart of
src/contract/shape-fields.ts)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LockstepError
from ..json_text import loads, number


class Fields:
    """A config.json that is being judged; numbers as they were written."""

    def __init__(self, config: Mapping[str, Any], file: Path):
        self.config, self.file = config, file

    def integer(self, field: str, absent: int | None = None, least: int = 1) -> int:
        if field not in self.config and absent is not None:
            return absent
        value = self.config.get(field)
        if type(value) is int and least <= value < 2**31:
            return value
        raise self.bad(f"an integer of at least {least} for {field}", self._said(field), field)

    def boolean(self, field: str, absent: bool) -> bool:
        if field not in self.config:
            return absent
        value = self.config[field]
        if isinstance(value, bool):
            return value
        raise self.bad(f"true or false for {field}", show(value), field)

    def number(self, value: Any, field: str) -> float:
        """A positive number of any object within the config."""
        if type(value) in (int, float) and 0 < value <= 2**53:
            return number(value)
        raise self.bad(f"a positive number for {field}", show(value), field)

    def bad(self, expected: str, got: str, field: str | None = None) -> LockstepError:
        return LockstepError(
            "LS_MODEL_CONFIG",
            f"expected {expected} in {self.file}, got {got}",
            "Copy config.json again from the original checkpoint.",
            field,
        )

    def _said(self, field: str) -> str:
        return show(self.config[field]) if field in self.config else "nothing"


def read_fields(folder: Path) -> Fields:
    """``config.json`` of a folder. Raises ``LS_MODEL_MISSING``, ``LS_MODEL_CONFIG``."""
    file = folder / "config.json"
    try:
        config = loads(file.read_bytes(), literal=True)
    except OSError as error:
        raise LockstepError(
            "LS_MODEL_MISSING",
            f"expected a checkpoint at {folder}, got {type(error).__name__} for config.json",
            "Name the folder of a Hugging Face checkpoint.",
            "model",
        ) from error
    except ValueError as error:
        raise Fields({}, file).bad("JSON", str(error)) from error
    if not isinstance(config, dict):
        raise Fields({}, file).bad("a JSON object", show(config)[:40])
    return Fields(config, file)


def unsupported(message: str, fix: str, field: str) -> LockstepError:
    return LockstepError("LS_MODEL_UNSUPPORTED", message, fix, field)


def show(value: Any) -> str:
    """A value of config.json in an error."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
