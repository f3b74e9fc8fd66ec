"""When each document of a step begins, so that a pass holds no more tokens than it may.

Documents of one step share no state, so they may run in any pass; a document that has begun goes on
in every pass until it ends. Long ones take their places first, short ones fill what is left.
"""

from __future__ import annotations

from collections.abc import Sequence


def starts(lengths: Sequence[Sequence[int]], most: int | None) -> list[int]:
    """The pass in which each document begins, from the ``lengths`` of its segments.

    Every pass holds at most ``most`` tokens (or one segment alone that is longer); None: all begin
    in the first. No pass before the last stays empty. The longest begin first, then in order.
    """
    if most is None:
        return [0] * len(lengths)
    out, loads = [0] * len(lengths), [0]
    free = 0  # the first pass that has any room
    for d in sorted(range(len(lengths)), key=lambda d: -len(lengths[d])):
        segments, at = lengths[d], free
        while not _fits(segments, at, loads, most):
            at += 1
        loads += [0] * (at + len(segments) - len(loads))
        for i, length in enumerate(segments):
            loads[at + i] += length
        while free < len(loads) and loads[free] >= most:
            free += 1
        out[d] = at
    return out


def _fits(segments: Sequence[int], at: int, loads: Sequence[int], most: int) -> bool:
    return all(
        at + i >= len(loads) or not loads[at + i] or loads[at + i] + length <= most
        for i, length in enumerate(segments)
    )


def passes(lengths: Sequence[Sequence[int]], most: int | None) -> int:
    """How many passes documents of such segments take together."""
    begun = starts(lengths, most)
    return max((at + len(one) for at, one in zip(begun, lengths, strict=True)), default=0)
