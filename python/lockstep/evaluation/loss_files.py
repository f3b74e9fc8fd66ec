"""Where the losses of a row lie: a file a window, raw float64 nats, one a target."""

from __future__ import annotations

import os
from pathlib import Path


def loss_file(folder: Path, row: str, window: int) -> Path:
    return folder / f"{row}-{window}.f64"


def missing(folder: Path, row: str, windows: int) -> list[int]:
    """Windows that the row has no losses of yet."""
    return [n for n in range(windows) if not loss_file(folder, row, n).is_file()]


def write(path: Path, data: bytes) -> None:
    """Whole or absent, so that an interrupted evaluation continues with what is there."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)
