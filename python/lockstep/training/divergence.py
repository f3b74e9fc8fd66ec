"""Loss spikes and divergence: noticed, reported, and ended before they are saved.

A step spikes when its loss lies more than ``spike`` nats per token above the median of the steps
before it. Clipping limits what one such step does, so it is reported and training goes on; as many
in a row as ``patience`` mean that the weights themselves are lost. While a row lasts nothing is
saved, so the newest checkpoint is one from before it. The verdict is a function of the losses
alone: a resumed training comes to the same.

A loss that climbs slowly takes the median along and never spikes: where the median of ``WINDOW``
steps lies more than ``spike`` above the lowest such median, the training has drifted and is ended
too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

WINDOW = 64  # steps that the median is over
ENOUGH = 8  # without so many there is no level to compare with


def level(losses: Sequence[float]) -> float | None:
    """Nats a token that the next step is compared with, None where there are too few steps."""
    before = losses[-WINDOW:]
    return median(before) if len(before) >= ENOUGH else None


class LossMonitor:
    """Counts the steps in a row that spike. ``spike`` 0 looks at nothing."""

    def __init__(self, spike: float, patience: int, losses: Sequence[float] = ()):
        self.spike, self.patience = spike, patience
        self.row = 0
        self._calm: list[float] = []
        self.lowest = math.inf
        for loss in losses:
            self.see(loss)

    def see(self, loss: float) -> float | None:
        """Take the next step's loss; the level it spikes above, or None.

        A spike does not enter the level: a row of them would soon be taken for ordinary.
        """
        usual = level(self._calm) if self.spike else None
        if usual is not None and loss > usual + self.spike:
            self.row += 1
            return usual
        self.row = 0
        self._calm = [*self._calm[1 - WINDOW :], loss]
        if len(self._calm) == WINDOW:
            self.lowest = min(self.lowest, median(self._calm))
        return None

    @property
    def drifted(self) -> float | None:
        """The level that the training has drifted to, None where it has not."""
        if not self.spike or len(self._calm) < WINDOW:
            return None
        now = median(self._calm)
        return now if now > self.lowest + self.spike else None

    @property
    def lost(self) -> bool:
        return self.row >= self.patience
