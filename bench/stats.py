"""Mean and interval over seeds: Student's t, two-sided, 95%."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

#: Quantiles by degrees of freedom (any table of Student's t); more seeds than these nobody ran.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def interval(values: Sequence[float], digits: int = 2) -> str:
    """Mean, and the half width of its 95% interval where there are two values or more."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    half = T95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ± {half:.{digits}f}"
