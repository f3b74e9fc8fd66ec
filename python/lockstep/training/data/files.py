"""Which files a config's patterns name."""

from __future__ import annotations

import glob
from pathlib import Path

from lockstep.errors import LockstepError


def find(patterns: tuple[str, ...], root: Path) -> list[Path]:
    """Files of ``patterns`` (paths or globs under ``root``; ``!pattern`` takes out), sorted.

    Raises LS_TRAIN_DATA when a pattern names no file or nothing is left.
    """
    found: set[Path] = set()
    for pattern in (p for p in patterns if not p.startswith("!")):
        here = {p for p in map(Path, glob.glob(str(root / pattern), recursive=True)) if p.is_file()}
        if not here:
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected {pattern!r} to name a text file, got none",
                "Patterns are relative to the config file; check the path.",
                "training.data",
            )
        found |= here
    for pattern in (p[1:] for p in patterns if p.startswith("!")):
        found -= {Path(p) for p in glob.glob(str(root / pattern), recursive=True)}
    if not found:
        raise LockstepError(
            "LS_TRAIN_DATA",
            "expected training.data to leave at least one file, got none after taking out "
            + ", ".join(p for p in patterns if p.startswith("!")),
            field="training.data",
        )
    return sorted(found)
