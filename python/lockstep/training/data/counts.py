"""What a file held, and what was wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError


@dataclass
class Counts:
    """What a file held. broken: rows that cannot be used; examples: (line, reason) of the first.
    largest: id. Of conversations: untargeted: without a target; long: whose first answer is too
    long for a sequence; cut: whose last turns were; joined: answers whose first token holds a part
    of their header; headed: headers written as in the prompt. targets: tokens that count, of a file
    where not all do."""

    documents: int = 0
    tokens: int = 0
    empty: int = 0
    single: int = 0
    broken: int = 0
    largest: int = -1
    untargeted: int = 0
    long: int = 0
    cut: int = 0
    joined: int = 0
    headed: int = 0
    targets: int = 0
    examples: list[list[Any]] = field(default_factory=list)


def broken_error(path: Path, counts: Counts) -> LockstepError:
    """LS_TRAIN_BROKEN, naming the first broken lines."""
    named = "; ".join(f"line {line}: {reason}" for line, reason in counts.examples[:3])
    more = counts.broken - min(3, len(counts.examples))
    return LockstepError(
        "LS_TRAIN_BROKEN",
        f"expected a document on every line of {path}, got {counts.broken} broken "
        f"{'line' if counts.broken == 1 else 'lines'} ({named}"
        + (f"; and {more} more" if more else "")
        + ")",
        "Correct them, or skip such lines with data.skipBroken: true.",
        "data.skipBroken",
    )
