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

from lockstep.chat.encode import Encoder, Result, Skipped, Wrong
from lockstep.chat.preferences import COUNTS, described, encode

from ...tokenizer.encoding import token_ids_of_all
from ..atomic import sync
from .chunks import Broken, Chat, Item, Place, TextChunk
from .counts import Counts, broken_error
from .fingerprint import replace
from .rows import Shape, read

BATCH = 1 << 21  # characters tokenized in one call, on all cores
COMMIT = 1 << 25  # characters after which what was written is made to last
EXAMPLES = 20  # broken rows that are kept by name
LOOK_ON = 1 << 28  # bytes looked through for further broken rows once one stops the reading
ROW = 24  # bytes of a row of documents.bin


class Build:
    """An entry in the making, in ``part``. A second one continues where a killed one stopped.

    end: the id that ends a text, or None; a text that ends with it, or with one of ``ends``, has it
    already. encoder: for conversations; the entry then says of each token whether it counts.
    """

    def __init__(
        self,
        part: Path,
        tokenizer: Tokenizer,
        dtype: str,
        counts: Counts,
        end: int | None = None,
        ends: frozenset[int] = frozenset(),
        encoder: Encoder | None = None,
    ):
        self.part, self.tokenizer, self.end, self.ends = part, tokenizer, end, ends
        self.dtype, self.counts, self.encoder = np.dtype(dtype), counts, encoder
        self.place, self.open_tokens, self.open_hash, self.last = Place(), 0, b"", -1
        self._restore()

    @property
    def names(self) -> list[str]:
        """Files that it writes."""
        masked = ["targets.bin"] if self.encoder is not None else []
        return ["tokens.bin", "documents.bin", *masked]

    def __enter__(self) -> Build:
        self.part.mkdir(parents=True, exist_ok=True)
        sizes = self.counts.tokens + self.open_tokens, self.counts.documents * ROW
        self.tokens = _continued(self.part / "tokens.bin", sizes[0] * self.dtype.itemsize)
        self.documents = _continued(self.part / "documents.bin", sizes[1])
        self.files = [self.tokens, self.documents]
        if self.encoder is not None:
            self.targets = _continued(self.part / "targets.bin", sizes[0])
            self.files.append(self.targets)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files:
            file.close()

    def run(self, path: Path, shape: Shape, skip: bool, tick: Callable[[int], None]) -> None:
        """Read the rest of the file. Raises LS_TRAIN_BROKEN, unless ``skip``, and what readers
        raise; whatever stops it, the work done up to the last commit stays."""
        unsaved = 0
        items = read(path, shape, self.place)
        for batch in _batches(items, BATCH):
            self._take(batch)
            unsaved += sum(_characters(one) for one in batch)
            place = batch[-1].place
            if self.counts.broken and not skip:
                self._look_on(items, batch[-1].done, tick)
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
        for name in self.names:
            sync(self.part / name)
        replace(self.part / "meta.json", json.dumps(meta).encode())
        sync(self.part)
        os.rename(self.part, folder)
        sync(folder.parent)
        (folder / "progress.json").unlink(missing_ok=True)

    def _take(self, batch: list[Item]) -> None:
        texts = [one.text for one in batch if isinstance(one, TextChunk)]
        encoded = token_ids_of_all(self.tokenizer, texts)
        examples = [one.example for one in batch if isinstance(one, Chat)]
        found = iter(encode(self.encoder, examples) if self.encoder is not None else [])
        for one in batch:
            if isinstance(one, Broken):
                self._broken(one.line, one.reason)
                continue
            if isinstance(one, Chat):
                self._take_chat(one, next(found))
                continue
            self._write(np.asarray(next(encoded), dtype=np.int64))
            # Chained, so that a document's hash can continue after a crash in the middle of it.
            self.open_hash = hashlib.blake2b(
                self.open_hash + one.text.encode(), digest_size=8
            ).digest()
            if one.last:
                if self.end is not None and self.open_tokens >= 2 and self.last not in self.ends:
                    self._write(np.array([self.end]))
                self._end_document()

    def _take_chat(self, one: Chat, result: Result) -> None:
        counts = self.counts
        if isinstance(result, Wrong):
            self._broken(one.line, result.reason)
        elif isinstance(result, Skipped):
            setattr(counts, result.why, getattr(counts, result.why) + 1)
        else:
            self._write(result.ids_T, result.mask_T)
            self.open_hash = hashlib.blake2b(
                described(one.example).encode(), digest_size=8
            ).digest()
            counts.cut += result.cut
            counts.joined += result.joined
            counts.headed += result.headed
            # The first token follows nothing.
            counts.targets += int((result.mask_T[1:] & COUNTS).sum())
            self._end_document()

    def _write(self, ids: np.ndarray, mask: np.ndarray | None = None) -> None:
        if not len(ids):
            return
        self.counts.largest = max(self.counts.largest, int(ids.max()))
        self.tokens.write(ids.astype(self.dtype).tobytes())
        if self.encoder is not None:
            counted = np.ones(len(ids), dtype="u1") if mask is None else mask.astype("u1")
            self.targets.write(counted.tobytes())
        self.open_tokens += len(ids)
        self.last = int(ids[-1])

    def _broken(self, line: int, reason: str) -> None:
        self.counts.broken += 1
        if len(self.counts.examples) < EXAMPLES:
            self.counts.examples.append([line, reason])

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
            if self.encoder is not None:
                self.targets.seek(counts.tokens)
                self.targets.truncate()
            counts.single += 1
        else:
            counts.empty += 1
        self.open_tokens, self.open_hash = 0, b""

    def _look_on(self, rest: Iterator[Item], done: int, tick: Callable[[int], None]) -> None:
        """Count further broken rows, so that they can be fixed all at once."""
        for one in rest:
            if isinstance(one, Broken):
                self._broken(one.line, one.reason)
            tick(one.done)
            if one.done - done > LOOK_ON:
                return

    def _commit(self, place: Place) -> None:
        for file in self.files:
            file.flush()
            os.fsync(file.fileno())
        state = {
            "place": asdict(place),
            "open": {"tokens": self.open_tokens, "hash": self.open_hash.hex(), "last": self.last},
            "counts": asdict(self.counts),
        }
        replace(self.part / "progress.json", json.dumps(state).encode())

    def _restore(self) -> None:
        try:
            state = json.loads((self.part / "progress.json").read_text(encoding="utf-8"))
            sizes = [(self.part / name).stat().st_size for name in self.names]
            counts, opened = state["counts"], state["open"]
            tokens = counts["tokens"] + opened["tokens"]
            needed = [tokens * self.dtype.itemsize, counts["documents"] * ROW, tokens]
            if any(size < least for size, least in zip(sizes, needed, strict=False)):
                raise ValueError
            self.place, self.last = Place(**state["place"]), opened["last"]
            self.open_tokens, self.open_hash = opened["tokens"], bytes.fromhex(opened["hash"])
            for name, value in counts.items():
                setattr(self.counts, name, value)
        except (OSError, ValueError, KeyError, TypeError):
            shutil.rmtree(self.part, ignore_errors=True)


def _characters(one: Item) -> int:
    if isinstance(one, TextChunk):
        return len(one.text)
    return len(described(one.example)) if isinstance(one, Chat) else 0


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    room = size
    for one in items:
        batch.append(one)
        # A row costs something even where it is empty.
        room -= 64 + _characters(one)
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
