"""When each document of a step begins, so that a pass holds no more tokens than it may.

Documents of one step share no state, so they may run in any pass. A document that has begun runs
in every pass until it ends. Long documents are placed first, short ones fill what is left.
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


def forked(
    lengths: Sequence[Sequence[int]], shared: Sequence[tuple[int, int] | None], most: int | None
) -> list[int]:
    """`starts` where some documents begin with segments of another: (which, how many of them).

    Both continue in the pass after the last one that they share. ``lengths`` of such a document are
    those of its own segments.
    """
    units: dict[int, list[int]] = {}
    for d, (own, place) in enumerate(zip(lengths, shared, strict=True)):
        first, unit = (0, units.setdefault(d, [])) if place is None else (place[1], units[place[0]])
        unit += [0] * (first + len(own) - len(unit))
        for i, length in enumerate(own):
            unit[first + i] += length
    begun = dict(zip(units, starts(list(units.values()), most), strict=True))
    return [
        begun[d] if place is None else begun[place[0]] + place[1] for d, place in enumerate(shared)
    ]


def _fits(segments: Sequence[int], at: int, loads: Sequence[int], most: int) -> bool:
    return all(
        at + i >= len(loads) or not loads[at + i] or loads[at + i] + length <= most
        for i, length in enumerate(segments)
    )


def passes(lengths: Sequence[Sequence[int]], most: int | None) -> int:
    """How many passes documents of such segments take together."""
    begun = starts(lengths, most)
    return max((at + len(one) for at, one in zip(begun, lengths, strict=True)), default=0)
