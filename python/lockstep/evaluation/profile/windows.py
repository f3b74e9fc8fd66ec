"""The sequences that a measurement sees: whole windows, drawn as the trainer draws them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.operator.model import Model
from lockstep.tokenizer.file import load_tokenizer
from lockstep.training import data
from lockstep.training.data import Cursor, Sequences, TrainSequence


def check_length(model: Model, length: int, beyond: bool = True) -> None:
    """Refuse a length with nothing beyond the window, or beyond the model (``LS_PROFILE_LENGTH``).
    Without ``beyond`` the window does not matter.

    Full attention is what is measured against, so it must not run past its trained context.
    """
    spec, most = model.spec, int(model.config.max_position_embeddings)
    least = spec.max + spec.sinks + spec.carry + 1 if beyond else 1
    if least <= length <= most:
        return
    raise LockstepError(
        "LS_PROFILE_LENGTH",
        f"expected --length from {least} "
        + ("(a segment, the sinks, the carry and one token more) " if beyond else "")
        + f"to {most} (the model's context), got {length}",
        "Give another --length, or smaller segments.",
        "length",
    )


class WindowSampler:
    """The first ``count`` full-length sequences of a seed, and a digest of their ids.

    ``texts`` is ``{files, root, field, skipBroken, cache, heldOut}`` in the words of the config's
    `data`; ``heldOut`` is the share of the documents that is left out.
    """

    def __init__(
        self,
        model: Model,
        folder: Path,
        texts: dict[str, Any],
        *,
        length: int,
        count: int,
        seed: int,
    ):
        contract = model.contract.document
        tokenizer = load_tokenizer(folder)
        root = Path(texts["root"])
        cache = root / (texts["cache"] or Path(".lockstep") / "cache")
        reading = data.ReadOptions(
            cache, texts["field"], texts["skipBroken"], job.emit, job.cancelled
        )
        corpus = data.load(
            tuple(texts["files"]),
            root,
            tokenizer,
            contract["tokenizer"]["size"],
            reading,
            fraction=texts["heldOut"],
        )
        self._sequences = Sequences(
            corpus.documents, length, seed, contract["tokenizer"]["bos"], model.contract
        )
        self.length, self.count = length, count
        try:
            self.drawn = list(self._draw())
        finally:
            self._sequences.close()
        digest = hashlib.sha256()
        for one in self.drawn:
            digest.update(np.asarray(one.ids, dtype="<i4").tobytes())
        self.sha256 = digest.hexdigest()

    def _draw(self) -> Iterator[TrainSequence]:
        """Two epochs without a single full window mean that the texts hold none."""
        cursor, found, fruitless = Cursor(), 0, 0
        while found < self.count:
            epoch = cursor.epoch
            (one,) = self._sequences.take(cursor, 1)
            if len(one.ids) == self.length:
                found, fruitless = found + 1, 0
                yield one
            elif cursor.epoch != epoch:
                fruitless += 1
                if fruitless == 2:
                    raise LockstepError(
                        "LS_PROFILE_DATA",
                        f"expected texts of at least {self.length} tokens, got none",
                        "Give longer texts with --data, or a smaller --length.",
                        "data",
                    )
