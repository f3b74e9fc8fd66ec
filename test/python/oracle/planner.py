"""The planner's rule of SEMANTICS section 5: from requests to cuts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence


class Planner:
    """Decides, token by token, whether the open segment ends after this token.

    ``minimum`` and ``maximum`` are multiples of ``align``.
    """

    def __init__(self, minimum: int, maximum: int, align: int = 1):
        assert 0 < align <= minimum <= maximum
        assert minimum % align == 0 and maximum % align == 0
        self.minimum, self.maximum, self.align = minimum, maximum, align
        self.position = 0
        self.length = 0
        self.pending = False

    def push(self, requested: bool) -> bool:
        """One token, and whether the policy asks for a cut after it. True: the segment ends."""
        self.position += 1
        self.length += 1
        if requested and self.length >= self.minimum:
            self.pending = True
        cut = (self.pending and self.length % self.align == 0) or self.length == self.maximum
        if cut:
            self.length = 0
            self.pending = False
        return cut


def boundaries(requests: Iterable[bool], minimum: int, maximum: int, align: int = 1) -> list[int]:
    """Decided cuts e_i (number of tokens before the cut) for given requests, one per token."""
    planner = Planner(minimum, maximum, align)
    return [planner.position for requested in requests if planner.push(requested)]


def plan(
    tokens: Sequence[int],
    push: Callable[[int], bool],
    minimum: int,
    maximum: int,
    align: int = 1,
    cut: Callable[[], None] | None = None,
) -> list[int]:
    """The same for a policy whose requests depend on the cuts: ``cut`` is told of each of them."""
    planner = Planner(minimum, maximum, align)
    found = []
    for token in tokens:
        if planner.push(push(token)):
            found.append(planner.position)
            if cut is not None:
                cut()
    return found
