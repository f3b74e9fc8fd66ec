"""What Python says of folders' weights; test/edits/weights.test.ts runs it.

``{"models": [...], "checkpoints": [...]}`` on stdin, ``{code, message, fix, field}`` or null for
each on stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from lockstep import contract
from lockstep.errors import LockstepError
from lockstep.weights import reader as weights


def said(reader: Callable[[str], Any], folder: str) -> dict[str, str] | None:
    try:
        reader(folder)
    except LockstepError as error:
        return error.as_dict()
    return None


if __name__ == "__main__":

    def checkpoint(folder: str) -> None:
        contract.read(folder)
        weights.read(folder)  # without weights, a folder may hold a graph alone

    asked = json.load(sys.stdin)
    out = {
        "models": [said(weights.read, folder) for folder in asked["models"]],
        "checkpoints": [said(checkpoint, folder) for folder in asked["checkpoints"]],
    }
    json.dump(out, sys.stdout)
