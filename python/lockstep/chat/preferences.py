"""Two answers to one prompt as token ids: one preferred to the other.

They are kept back to back as one document. Its mask says of each token whether it counts (`COUNTS`)
and whether it is of the second sequence (`SECOND`): prompt and rejected answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .encode import Conversation, Encoded, Encoder, Example, Pair, Result, Skipped, Wrong, text_of

COUNTS, SECOND = 1, 2


@dataclass(frozen=True)
class Preference:
    """The same prompt twice, with the answer that is preferred and with the other one."""

    chosen: Conversation | Pair
    rejected: Conversation | Pair


def encode(encoder: Encoder, examples: Sequence[Example | Preference]) -> list[Result]:
    """The ids of each example, or why there are none; those of a `Preference` back to back."""
    flat: list[Example] = []
    for one in examples:
        flat += [one.chosen, one.rejected] if isinstance(one, Preference) else [one]
    found = iter(encoder.encode(flat))
    return [
        _joined(next(found), next(found)) if isinstance(one, Preference) else next(found)
        for one in examples
    ]


def _joined(chosen: Result, rejected: Result) -> Result:
    for name, one in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(one, Wrong):
            return Wrong(f"in {name!r}: {one.reason}")
    for one in (chosen, rejected):
        if isinstance(one, Skipped):
            return one
        # Where later turns were left out, the answer was.
        if isinstance(one, Encoded) and one.cut:
            return Skipped("long")
    assert isinstance(chosen, Encoded) and isinstance(rejected, Encoded)
    if np.array_equal(chosen.ids_T, rejected.ids_T):
        return Wrong("'chosen' and 'rejected' are the same tokens")
    mask_T = np.concatenate(
        (
            chosen.mask_T * np.uint8(COUNTS),
            rejected.mask_T * np.uint8(COUNTS) + np.uint8(SECOND),
        )
    )
    return Encoded(
        np.concatenate((chosen.ids_T, rejected.ids_T)),
        mask_T,
        joined=chosen.joined + rejected.joined,
        headed=chosen.headed + rejected.headed,
    )


def halves(mask_T: np.ndarray) -> int:
    """Where the second sequence of a document begins."""
    return int(np.argmax((mask_T & SECOND) > 0))


def described(example: Example | Preference) -> str:
    """One text that stands for an example: what decides whether it is held out."""
    if isinstance(example, Preference):
        return json.dumps([text_of(example.chosen), text_of(example.rejected)])
    return text_of(example)
