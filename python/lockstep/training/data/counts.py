"""What a file held, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError


@dataclass
class Counts:
    """What a file held. broken: (line, reason) of the first rows without text. largest: id."""

    documents: int = 0
    tokens: int = 0
    empty: int = 0
    single: int = 0
    broken: int = 0
    largest: int = -1
    examples: list[list[Any]] = field(default_factory=list)


def broken_error(path: Path, counts: Counts) -> LockstepError:
    """LS_TRAIN_BROKEN, naming the first broken lines."""
    named = "; ".join(f"line {line}: {reason}" for line, reason in counts.examples[:3])
    more = counts.broken - min(3, len(counts.examples))
    return LockstepError(
        "LS_TRAIN_BROKEN",
        f"expected a text on every line of {path}, got {counts.broken} broken "
        f"{'line' if counts.broken == 1 else 'lines'} ({named}"
        + (f"; and {more} more" if more else "")
        + ")",
        "Correct them, or skip such lines with data.skipBroken: true.",
        "data.skipBroken",
    )
