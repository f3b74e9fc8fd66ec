"""Training sequences: what is drawn, in which order, and where it is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.contract.planner import PlannerSource
from lockstep.errors import LockstepError

from .order import key, scatter, shuffled
from .prefetch import Prefetcher, Window
from .store import Documents

STEPS = 2  # optimizer steps that are cut ahead
BLOCK = 4096  # documents whose windows are counted at once: an epoch costs 8 bytes a block


@dataclass(frozen=True)
class TrainSequence:
    """A training sequence, or one of several short ones that share its room.

    ids: at least 2, BOS included, from position 0 of a state of their own. boundaries: the cuts e_i
    in them. mask: which of them count as targets, None where all do. slot: the same number for
    those that are packed together; None: a sequence of its own.
    """

    ids: list[int]
    boundaries: list[int]
    mask: list[bool] | None = None
    slot: int | None = None

    @property
    def targets(self) -> int:
        """Tokens that are predicted and count."""
        return len(self.ids) - 1 if self.mask is None else sum(self.mask[1:])


def slots(drawn: Sequence[TrainSequence]) -> list[list[TrainSequence]]:
    """What is drawn, those that are packed together in one list, in order."""
    out: list[list[TrainSequence]] = []
    for one in drawn:
        if out and one.slot is not None and out[-1][0].slot == one.slot:
            out[-1].append(one)
        else:
            out.append([one])
    return out


@dataclass
class Cursor:
    """Where the next sequence comes from; all that a resumption needs to continue with the data.

    data: digest of the corpus and of how it is packed; empty before the first sequence.
    """

    epoch: int = 0
    at: int = 0
    data: str = ""


class Sequences:
    """Draws training sequences: a function of the corpus, ``length``, ``seed`` and a cursor.

    Every epoch tiles each document with windows of ``length`` tokens, the first one of random
    length, so that each token is seen once and window edges move between epochs, and shuffles the
    windows of all documents. A sequence never holds tokens of two documents. Nothing is kept but a
    number for every few thousand documents.

    ``pack``: as many windows as fit, in their order, share the room of one sequence. None
    packs only conversations, whose documents have a mask. Each document keeps its own state.

    ``workers`` processes cut the sequences that come next while the caller computes; 0 cuts them
    when they are taken. ``warn`` reports a worker that died; its work is then done here.
    """

    #: Whether one window alone shares a slot with itself: what it is drawn as has several parts.
    grouped = False

    def __init__(
        self,
        documents: Documents,
        length: int,
        seed: int,
        bos: int | None,
        contract: PlannerSource,
        workers: int = 0,
        warn: Callable[[str], None] = lambda message: None,
        pack: bool | None = None,
    ):
        self.documents, self.seed, self.bos, self.workers = documents, seed, bos, workers
        self.pack = pack
        self.window = length - (bos is not None)
        self.least = 2 - (bos is not None)  # tokens that make a sequence
        self._epoch: tuple[int, np.ndarray] | None = None
        self._prefetcher = Prefetcher(documents.tokens, bos, contract, workers, warn)

    def take(self, cursor: Cursor, n: int, rank: int = 0, world: int = 1) -> list[TrainSequence]:
        """Move the cursor by ``n`` sequences; those whose index in 0..n-1 is ``rank`` modulo
        ``world``, planned, with what is packed with them. Every rank of an optimizer step calls
        with the same cursor and ``n``.

        Raises LS_TRAIN_RESUME where the cursor comes from another corpus; LS_POLICY_*.
        """
        if cursor.data not in ("", self._stamp):
            raise LockstepError(
                "LS_TRAIN_RESUME",
                "expected the training data of the interrupted training, got other texts, another "
                "tokenizer, another split or another way to read them",
                "Restore the same files, or start a new training with another `out`.",
                "data",
            )
        cursor.data = self._stamp
        mine = self._windows(cursor, n, rank, world)
        later = Cursor(cursor.epoch, cursor.at)
        coming = [self._windows(later, n, rank, world) for _ in range(STEPS if self.workers else 0)]
        parts = [(slot, part) for slot, window in mine for part in self._parts(window)]
        planned = self._prefetcher.take(
            [part for _, part in parts],
            [part for step in coming for _, window in step for part in self._parts(window)],
        )
        drawn = []
        for (slot, window), (ids, boundaries) in zip(parts, planned, strict=True):
            mask_T = self._mask(window)
            mask = None
            if mask_T is not None:
                first = [False] * (len(ids) - len(mask_T))  # BOS
                mask = first + mask_T.astype(bool).tolist()
            drawn.append(TrainSequence(ids, boundaries, mask, slot))
        return drawn

    def close(self) -> None:
        """Stop workers and planner. Idempotent."""
        self._prefetcher.close()

    def count(self, epoch: int) -> int:
        """Sequences in an epoch."""
        return int(self._starts(epoch)[-1])

    def at(self, epoch: int, index: int) -> tuple[int, int, int]:
        """(document, start, end) of an epoch's sequence number ``index`` in drawing order."""
        starts = self._starts(epoch)
        window = shuffled(index, int(starts[-1]), key("lockstep", "order", self.seed, epoch))
        block = int(np.searchsorted(starts, window, side="right")) - 1
        first = block * BLOCK
        sizes, edges, counts = self._tiles(epoch, first, first + BLOCK)
        ends = np.cumsum(counts)
        window -= int(starts[block])
        inside = int(np.searchsorted(ends, window, side="right"))
        turn = window - (int(ends[inside - 1]) if inside else 0)
        size, edge = int(sizes[inside]), int(edges[inside])
        start = 0 if turn == 0 else edge + (turn - 1) * self.window
        return first + inside, start, min(size, edge + turn * self.window)

    def _windows(
        self, cursor: Cursor, n: int, rank: int, world: int
    ) -> list[tuple[int | None, Window]]:
        """Move the cursor by n sequences; (slot, (file, first token, last)) of those that are
        mine. A slot ends with its epoch."""
        out: list[tuple[int | None, Window]] = []
        for index in range(n):
            if cursor.at >= self.count(cursor.epoch):
                cursor.epoch, cursor.at = cursor.epoch + 1, 0
            packing = self._may_pack
            if not packing and index % world != rank:
                cursor.at += 1
                continue
            taken = [self._window(cursor)]
            cursor.at += 1
            room = self.window + (self.bos is not None) - self._room(taken[0])
            while (
                packing
                and self._packs(taken[0])
                and room > 0
                and cursor.at < self.count(cursor.epoch)
                and self._packs(later := self._window(cursor))
                and self._room(later) <= room
            ):
                taken.append(later)
                room -= self._room(later)
                cursor.at += 1
            if index % world == rank:
                slot = index if len(taken) > 1 or self.grouped else None
                out += [(slot, window) for window in taken]
        return out

    def _parts(self, window: Window) -> list[Window]:
        """What a window is drawn as."""
        return [window]

    def _mask(self, window: Window) -> np.ndarray | None:
        """Which tokens of a part count, uint8; None: all."""
        return self.documents.tokens.mask(*window)

    def _window(self, cursor: Cursor) -> Window:
        document, start, end = self.at(cursor.epoch, cursor.at)
        file, first, _ = map(int, self.documents.index_N3[document])
        return file, first + start, first + end

    @property
    def _stamp(self) -> str:
        digest = self.documents.digest
        return f"{digest}:{self.pack}" if self._may_pack else digest

    @property
    def _may_pack(self) -> bool:
        masks = self.documents.tokens.masks
        return self.pack is True or (self.pack is None and any(m is not None for m in masks))

    def _packs(self, window: Window) -> bool:
        return self.pack is True or self.documents.tokens.masks[window[0]] is not None

    def _room(self, window: Window) -> int:
        """Tokens of a window, BOS included."""
        return window[2] - window[1] + (self.bos is not None)

    def _starts(self, epoch: int) -> np.ndarray:
        """Windows before each block of documents, and of all: int64 [blocks + 1]."""
        if self._epoch is None or self._epoch[0] != epoch:
            totals = [0]
            for first in range(0, len(self.documents), BLOCK):
                totals.append(int(self._tiles(epoch, first, first + BLOCK)[2].sum()))
            self._epoch = epoch, np.cumsum(np.array(totals, dtype=np.int64))
        return self._epoch[1]

    def _tiles(self, epoch: int, first: int, last: int) -> tuple[np.ndarray, ...]:
        """Of documents [first, last): tokens, end of the first window, number of windows.

        A last window that holds no target falls out.
        """
        sizes = self.documents.lengths(first, last)
        hashes = scatter(np.arange(first, first + len(sizes)), key("lockstep", self.seed, epoch))
        spread = hashes % np.uint64(self.window - self.least + 1)
        edges = np.where(sizes > self.window, self.least + spread.astype(np.int64), sizes)
        rest = sizes - edges
        counts = 1 + rest // self.window + (rest % self.window >= self.least)
        return sizes, edges, counts
