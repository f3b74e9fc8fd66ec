"""Which segment of which document runs in which pass of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..operator.contexts import PackedSpan
from . import document_starts


@dataclass(frozen=True)
class SegmentPasses:
    """Documents, each with the segments that it runs, one a pass, and the first pass of them.

    ``origins``: for a document that begins with segments of an earlier one, (which, how many).
    """

    plans: Sequence[Sequence[PackedSpan]]
    begun: Sequence[int]
    origins: Sequence[tuple[int, int] | None]

    def __len__(self) -> int:
        return max(at + len(plan) for at, plan in zip(self.begun, self.plans, strict=True))

    def segments(self, i: int) -> list[tuple[int, PackedSpan]]:
        """(document, its segment) of pass ``i``, in order."""
        return [
            (d, plan[i - at])
            for d, (at, plan) in enumerate(zip(self.begun, self.plans, strict=True))
            if at <= i < at + len(plan)
        ]

    def new(self, i: int) -> list[int]:
        """The documents that begin in pass ``i`` with an empty state."""
        return [
            d
            for d, (at, plan) in enumerate(zip(self.begun, self.plans, strict=True))
            if at == i and plan and self.origins[d] is None
        ]

    def forks(self, i: int) -> list[tuple[int, int]]:
        """(document, the earlier one whose state it takes) of those that begin so in pass ``i``."""
        return [
            (d, origin[0])
            for d, origin in enumerate(self.origins)
            if origin is not None and self.begun[d] == i
        ]

    def goes_on(self, d: int, i: int) -> bool:
        """Whether document ``d`` has a segment in the pass after pass ``i``."""
        return i + 1 < self.begun[d] + len(self.plans[d])


def segment_passes(
    plans: Sequence[Sequence[PackedSpan]],
    shared: Sequence[tuple[int, int] | None] | None,
    most: int | None,
    filler: Sequence[PackedSpan] | None,
) -> SegmentPasses:
    """``plans``: all segments of each document. ``filler``: one more that runs in every pass."""
    origins = [None] * len(plans) if shared is None else list(shared)
    own = [
        plan if origin is None else plan[origin[1] :]
        for plan, origin in zip(plans, origins, strict=True)
    ]
    lengths = [[span.length for span in plan] for plan in own]
    begun = document_starts.forked(lengths, origins, most)
    if filler is not None:
        # It takes no room.
        own, begun, origins = [*own, filler], [*begun, 0], [*origins, None]
    return SegmentPasses(own, begun, origins)
