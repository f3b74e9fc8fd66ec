"""What an unfinished measurement has so far, in a file next to its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...training.data.fingerprint import replace


class Partial:
    """The state of one measurement; another one's (other model, data, settings) is not taken."""

    def __init__(self, out: Path, identity: dict[str, Any]):
        self.path = out.with_name(f".{out.name}.partial")
        # Through JSON, so that what is compared looks as what was read.
        self.identity = json.loads(json.dumps(identity))

    def read(self) -> Any | None:
        """The state to continue from, or None. A file that cannot be read is as good as none."""
        try:
            held = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return held["state"] if held.get("identity") == self.identity else None

    def write(self, state: Any) -> None:
        """Replace the state in one rename."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace(self.path, json.dumps({"identity": self.identity, "state": state}).encode())

    def part(self, name: str) -> Partial:
        """A measurement that is one of several in the same file."""
        return _Part(self, name)


class _Part(Partial):
    def __init__(self, whole: Partial, name: str):
        self._whole, self._name = whole, name

    def read(self) -> Any | None:
        return (self._whole.read() or {}).get(self._name)

    def write(self, state: Any) -> None:
        self._whole.write((self._whole.read() or {}) | {self._name: state})
