"""Training sequences: what is drawn, in which order, and where it is cut."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lockstep.planner import Planner, PlannerSource

from .corpus import Document


@dataclass(frozen=True)
class Drawn:
    """One training sequence: token ids (at least 2, BOS included) and the cuts e_i in it."""

    ids: list[int]
    boundaries: list[int]


@dataclass
class Cursor:
    """Where the next sequence comes from; all that a resumption needs to go on with the data."""

    epoch: int = 0
    at: int = 0


class Sequences:
    """Draws training sequences: a function of the corpus, ``length``, ``seed`` and a cursor.

    Every epoch tiles each document with windows of ``length`` tokens from a random offset, so that
    each token is seen once and window edges move between epochs, and shuffles the windows of all
    documents. A sequence never holds tokens of two documents.
    """

    def __init__(
        self,
        documents: list[Document],
        length: int,
        seed: int,
        bos: int | None,
        contract: PlannerSource,
    ):
        self.documents, self.seed, self.bos = documents, seed, bos
        self._planner = Planner(contract)
        self.window = length - (bos is not None)
        self._epoch: tuple[int, list[tuple[int, int, int]]] | None = None

    def windows(self, epoch: int) -> list[tuple[int, int, int]]:
        """(document, start, end) of an epoch, in the order in which they are drawn."""
        if self._epoch is None or self._epoch[0] != epoch:
            dice = random.Random(f"lockstep:{self.seed}:{epoch}")
            out = []
            for index, document in enumerate(self.documents):
                size, start = len(document.ids_N), 0
                end = dice.randrange(self.window) if size > self.window else self.window
                while start < size:
                    end = min(end, size)
                    if end - start >= 2 or (self.bos is not None and end > start):
                        out.append((index, start, end))
                    start, end = end, end + self.window
            dice.shuffle(out)
            self._epoch = (epoch, out)
        return self._epoch[1]

    def take(self, cursor: Cursor, n: int, rank: int = 0, world: int = 1) -> list[Drawn]:
        """Move the cursor by ``n`` sequences; those whose index in 0..n-1 is ``rank`` modulo
        ``world``, planned. Every rank of an optimizer step calls with the same cursor and ``n``."""
        return [
            Drawn(ids, self._planner.plan(ids))
            for index, ids in enumerate([self._next(cursor) for _ in range(n)])
            if index % world == rank
        ]

    def close(self) -> None:
        """Stop the planner. Idempotent."""
        self._planner.close()

    def _next(self, cursor: Cursor) -> list[int]:
        if cursor.at >= len(self.windows(cursor.epoch)):
            cursor.epoch, cursor.at = cursor.epoch + 1, 0
        index, start, end = self.windows(cursor.epoch)[cursor.at]
        cursor.at += 1
        ids: list[int] = self.documents[index].ids_N[start:end].tolist()
        return ids if self.bos is None else [self.bos, *ids]
