"""What Python says of checkpoints: reads a JSON list of folders, prints one outcome for each.

`accepted`, or the error's code and field.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lockstep import contract
from lockstep.errors import LockstepError
from lockstep.export import meta as onnx_meta


def judge(folder: Path) -> list[str | None]:
    try:
        document = contract.read(folder).document
        for graph in sorted((folder / "onnx").iterdir()):
            onnx_meta.read(graph / "meta.json", document, graph.name)
    except LockstepError as error:
        return [error.code, error.field]
    return ["accepted", None]


if __name__ == "__main__":
    print(json.dumps([judge(Path(folder)) for folder in json.load(sys.stdin)]))
