"""Preference rows as training sequences: each document is a prompt with two answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.chat.preferences import COUNTS, halves

from .prefetch import Window, with_bos
from .sequences import Sequences, TrainSequence
from .store import Document


class PairSequences(Sequences):
    """Draws a row as two `TrainSequence` in one slot: prompt and chosen, and prompt and rejected.

    A sequence has room for twice ``length`` tokens, so that no row is cut.
    """

    grouped = True

    def __init__(self, documents: Any, length: int, *rest: Any):
        super().__init__(documents, 2 * length, *rest)

    def _parts(self, window: Window) -> list[Window]:
        file, first, last = window
        mask_T = self.documents.tokens.mask(*window)
        assert mask_T is not None
        middle = first + halves(mask_T)
        return [(file, first, middle), (file, middle, last)]

    def _mask(self, window: Window) -> np.ndarray | None:
        mask_T = self.documents.tokens.mask(*window)
        return None if mask_T is None else mask_T & COUNTS


def pair_of(document: Document, bos: int | None, plan: Any) -> tuple[TrainSequence, TrainSequence]:
    """A document's two sequences. plan: cuts of a list of ids."""
    assert document.mask_N is not None
    middle = halves(document.mask_N)
    out = []
    for part in (slice(0, middle), slice(middle, None)):
        ids = with_bos(document.ids_N[part].tolist(), bos)
        counted = (document.mask_N[part] & COUNTS).astype(bool).tolist()
        out.append(TrainSequence(ids, plan(ids), [False] * (len(ids) - len(counted)) + counted, 0))
    return out[0], out[1]


def as_pairs(docs: Sequence[TrainSequence]) -> list[tuple[TrainSequence, TrainSequence]]:
    """The rows of what was drawn."""
    return list(zip(docs[::2], docs[1::2], strict=True))
