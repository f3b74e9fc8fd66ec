"""Making one entry of the cache: tokens appended batch by batch, never lost by a crash."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tokenizers import Tokenizer

from ...encoding import token_ids_of_all
from ..atomic import sync
from .counts import Counts, broken_error
from .files import Kind
from .identity import replace
from .pieces import Broken, Piece, Place
from .readers import read_jsonl, read_text
from .tables import read_table

BATCH = 1 << 21  # characters tokenized in one call, on all cores
COMMIT = 1 << 25  # characters after which what was written is made to last
EXAMPLES = 20  # broken rows that are kept by name
LOOK_ON = 1 << 28  # bytes looked through for further broken rows once one stops the reading
ROW = 24  # bytes of a row of documents.bin
Read = Iterable[Piece | Broken]


class Build:
    """An entry in the making, in ``part``. A second one goes on where a killed one stopped."""

    def __init__(self, part: Path, tokenizer: Tokenizer, dtype: str, counts: Counts):
        self.part, self.tokenizer = part, tokenizer
        self.dtype, self.counts = np.dtype(dtype), counts
        self.place, self.open_tokens, self.open_hash = Place(), 0, b""
        self._restore()

    def __enter__(self) -> Build:
        self.part.mkdir(parents=True, exist_ok=True)
        sizes = self.counts.tokens + self.open_tokens, self.counts.documents * ROW
        self.tokens = _continued(self.part / "tokens.bin", sizes[0] * self.dtype.itemsize)
        self.documents = _continued(self.part / "documents.bin", sizes[1])
        return self

    def __exit__(self, *_: object) -> None:
        self.tokens.close()
        self.documents.close()

    def run(
        self, path: Path, kind: Kind, field: str, skip: bool, tick: Callable[[int], None]
    ) -> None:
        """Read the rest of the file. Raises LS_TRAIN_BROKEN, unless ``skip``, and what readers
        raise; whatever stops it, the work done up to the last commit stays."""
        unsaved = 0
        read = _open(path, kind, self.place, field)
        for batch in _batches(read, BATCH):
            self._take(batch)
            unsaved += sum(len(one.text) for one in batch if isinstance(one, Piece))
            place = batch[-1].place
            if self.counts.broken and not skip:
                self._look_on(read, batch[-1].done, tick)
                raise broken_error(path, self.counts)
            if place is not None and unsaved >= COMMIT:
                self._commit(place)
                unsaved = 0
            try:
                tick(batch[-1].done)
            except BaseException:
                if place is not None:
                    self._commit(place)
                raise

    def seal(self, meta: dict[str, Any], folder: Path) -> None:
        """Give the finished entry its name."""
        for name in ("tokens.bin", "documents.bin"):
            sync(self.part / name)
        replace(self.part / "meta.json", json.dumps(meta).encode())
        sync(self.part)
        os.rename(self.part, folder)
        sync(folder.parent)
        (folder / "progress.json").unlink(missing_ok=True)

    def _take(self, batch: list[Piece | Broken]) -> None:
        texts = [one.text for one in batch if isinstance(one, Piece)]
        encoded = token_ids_of_all(self.tokenizer, texts)
        counts = self.counts
        for one in batch:
            if isinstance(one, Broken):
                counts.broken += 1
                if len(counts.examples) < EXAMPLES:
                    counts.examples.append([one.line, one.reason])
                continue
            ids = np.asarray(next(encoded), dtype=np.int64)
            if len(ids):
                counts.largest = max(counts.largest, int(ids.max()))
                self.tokens.write(ids.astype(self.dtype).tobytes())
            self.open_tokens += len(ids)
            # Chained, so that a document's hash can go on after a crash in the middle of it.
            self.open_hash = hashlib.blake2b(
                self.open_hash + one.text.encode(), digest_size=8
            ).digest()
            if one.last:
                self._end_document()

    def _end_document(self) -> None:
        counts, length = self.counts, self.open_tokens
        if length >= 2:
            value = int.from_bytes(self.open_hash, "little")
            row = np.array([counts.tokens, length, value], dtype="<u8")
            self.documents.write(row.tobytes())
            counts.documents += 1
            counts.tokens += length
        elif length == 1:  # nothing to predict: its token is taken back
            self.tokens.seek(counts.tokens * self.dtype.itemsize)
            self.tokens.truncate()
            counts.single += 1
        else:
            counts.empty += 1
        self.open_tokens, self.open_hash = 0, b""

    def _look_on(
        self, rest: Iterator[Piece | Broken], done: int, tick: Callable[[int], None]
    ) -> None:
        """Count further broken rows, so that they can be mended all at once."""
        for one in rest:
            if isinstance(one, Broken):
                self.counts.broken += 1
                if len(self.counts.examples) < EXAMPLES:
                    self.counts.examples.append([one.line, one.reason])
            tick(one.done)
            if one.done - done > LOOK_ON:
                return

    def _commit(self, place: Place) -> None:
        for file in (self.tokens, self.documents):
            file.flush()
            os.fsync(file.fileno())
        state = {
            "place": asdict(place),
            "open": {"tokens": self.open_tokens, "hash": self.open_hash.hex()},
            "counts": asdict(self.counts),
        }
        replace(self.part / "progress.json", json.dumps(state).encode())

    def _restore(self) -> None:
        try:
            state = json.loads((self.part / "progress.json").read_text(encoding="utf-8"))
            sizes = [(self.part / f"{n}.bin").stat().st_size for n in ("tokens", "documents")]
            counts, opened = state["counts"], state["open"]
            needed = (counts["tokens"] + opened["tokens"]) * self.dtype.itemsize
            if sizes[0] < needed or sizes[1] < counts["documents"] * ROW:
                raise ValueError
            self.place = Place(**state["place"])
            self.open_tokens, self.open_hash = opened["tokens"], bytes.fromhex(opened["hash"])
            for name, value in counts.items():
                setattr(self.counts, name, value)
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(self.part, ignore_errors=True)


def _open(path: Path, kind: Kind, start: Place, field: str) -> Iterator[Piece | Broken]:
    if kind == "text":
        return read_text(path, start)
    if kind == "jsonl":
        return read_jsonl(path, start, field)
    return read_table(path, kind, start, field)


def _batches(read: Read, size: int) -> Iterator[list[Piece | Broken]]:
    batch: list[Piece | Broken] = []
    room = size
    for one in read:
        batch.append(one)
        # A row costs something even where it is empty.
        room -= 64 + (len(one.text) if isinstance(one, Piece) else 0)
        if room <= 0 or isinstance(one, Broken):
            yield batch
            batch, room = [], size
    if batch:
        yield batch


def _continued(path: Path, size: int) -> BinaryIO:
    path.touch()
    file = path.open("r+b")
    file.truncate(size)
    file.seek(size)
    return file
