"""Budget and learning rate: warm-up, then a cosine or a line, over steps or over seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Budget:
    """How far a training has come. Exactly one of ``steps`` and ``minutes`` is set.

    ``step`` counts optimizer steps done, ``seconds`` the time they took (without loading, scoring
    and saving), so that a resumed training goes on where it stopped.
    """

    steps: int | None
    minutes: float | None
    step: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.step += 1
        self.seconds += seconds

    @property
    def seconds_per_step(self) -> float:
        return self.seconds / self.step if self.step else 0.0

    @property
    def progress(self) -> float:
        """Share of the budget spent, 0..1."""
        if self.steps is not None:
            return min(1.0, self.step / self.steps)
        assert self.minutes is not None
        return min(1.0, self.seconds / (60.0 * self.minutes))

    @property
    def next_progress(self) -> float:
        """Share of the budget spent when the next step ends: it sets the step's learning rate."""
        if self.steps is not None:
            return min(1.0, (self.step + 1) / self.steps)
        assert self.minutes is not None
        return min(1.0, (self.seconds + self.seconds_per_step) / (60.0 * self.minutes))

    @property
    def done(self) -> bool:
        """True when no further step fits. Time ends with the step that ends nearest to it."""
        if self.steps is not None:
            return self.step >= self.steps
        assert self.minutes is not None
        return self.step > 0 and self.seconds + self.seconds_per_step / 2 >= 60.0 * self.minutes

    @property
    def eta(self) -> float | None:
        """Seconds left, or None before the first step."""
        if self.steps is None:
            assert self.minutes is not None
            return max(0.0, 60.0 * self.minutes - self.seconds)
        return (self.steps - self.step) * self.seconds_per_step if self.step else None


SCHEDULES = ("cosine", "linear", "constant")


def learning_rate(
    progress: float, peak: float, warmup: float, final: float, schedule: str = "cosine"
) -> float:
    """Learning rate at ``progress`` in 0..1.

    Rises linearly from a tenth of ``peak`` during the share ``warmup``. Then, to ``final * peak``
    at 1: along half a cosine, or a line; or ``constant``: stays at the peak.
    """
    if progress < warmup:
        return peak * max(0.1, progress / warmup)
    if schedule == "constant":
        return peak
    along = (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 0.0
    left = 1.0 - along if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * along))
    return peak * (final + (1.0 - final) * left)
