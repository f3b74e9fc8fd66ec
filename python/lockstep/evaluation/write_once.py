"""Files of an evaluation from which a later call resumes."""

from __future__ import annotations

import os
from pathlib import Path

from lockstep.errors import LockstepError


def write_once(path: Path, text: str) -> None:
    """Write a file whole, or find it there with the same content.

    Earlier measurements belong to its content: other content is refused (``LS_EVAL_RESUME``).
    """
    if path.is_file():
        if path.read_text(encoding="utf-8") == text:
            return
        raise LockstepError(
            "LS_EVAL_RESUME",
            f"expected the texts that {path} was made from, got others",
            "Name another folder with --out, or remove this one.",
            "out",
        )
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
