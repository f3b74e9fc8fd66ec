"""Loss spikes and divergence: noticed, reported, and ended before they are saved.

A step spikes when its loss lies more than ``spike`` nats per token above nine tenths of the steps
before it. (Not above their median: where texts of two kinds are mixed, such as conversations and
books, the median is the level of one kind, and each step of the other would spike.) Clipping limits
what one such step does, so it is reported and training goes on; as many in a row as ``patience``
mean that the weights themselves are lost. While a row lasts nothing is saved, so the newest
checkpoint is one from before it. The verdict is a function of the losses alone: a resumed training
comes to the same.

A loss that climbs slowly takes this level along and never spikes: where the mean of ``WINDOW``
steps lies more than ``spike`` above the lowest such mean, the training has drifted and is ended
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

WINDOW = 64  # steps that the level is over
ENOUGH = 8  # without so many there is no level to compare with
SHARE = 0.9  # of these steps lie at or below the level


def level(losses: Sequence[float]) -> float | None:
    """Nats a token that the next step is compared with, None where there are too few steps."""
    before = sorted(losses[-WINDOW:])
    return before[math.ceil(SHARE * len(before)) - 1] if len(before) >= ENOUGH else None


class LossMonitor:
    """Counts the steps in a row that spike. ``spike`` 0 looks at nothing."""

    def __init__(self, spike: float, patience: int, losses: Sequence[float] = ()):
        self.spike, self.patience = spike, patience
        self._row: list[float] = []
        self._calm: list[float] = []
        self.lowest = math.inf
        for loss in losses:
            self.see(loss)

    @property
    def row(self) -> int:
        """Spikes in a row up to the last step."""
        return len(self._row)

    def see(self, loss: float) -> float | None:
        """Take the next step's loss; the level it spikes above, or None.

        Spikes enter the level only when their row has ended: a row that lasts would soon be taken
        for ordinary, and a kind of text that comes now and then would spike for ever.
        """
        usual = level(self._calm) if self.spike else None
        if usual is not None and loss > usual + self.spike:
            self._row.append(loss)
            return usual
        for ended in [*self._row, loss]:
            self._calm = [*self._calm[1 - WINDOW :], ended]
            if len(self._calm) == WINDOW:
                self.lowest = min(self.lowest, fmean(self._calm))
        self._row = []
        return None

    @property
    def drifted(self) -> float | None:
        """The level that the training has drifted to, None where it has not."""
        if not self.spike or len(self._calm) < WINDOW:
            return None
        now = fmean(self._calm)
        return now if now > self.lowest + self.spike else None

    @property
    def lost(self) -> bool:
        return self.row >= self.patience
