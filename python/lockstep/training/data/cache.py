"""Files tokenized once: a cache of token ids that are read through memory maps.

One entry a file, named by the SHA-256 of its bytes, of the tokenizer and of how it was read:

    KEY/tokens.bin      ids of all documents, back to back, uint16 or uint32, little-endian
    KEY/targets.bin     of conversations: 1 for an id that counts as a target, 0 for others, uint8
    KEY/documents.bin   a row [first token, tokens, hash of the text] a document, uint64
    KEY/meta.json       counts; it is written last
    KEY.part/           an entry in the making; progress.json says how much of it holds

Everything here can be made again, so the folder may be deleted when no training runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from lockstep.bridge.job import Cancelled
from lockstep.chat.encode import Encoder, Rule
from lockstep.errors import LockstepError
from lockstep.training.atomic import is_full

from .build import ROW, Build
from .counts import Counts, broken_error
from .files import compression_of
from .fingerprint import sha256
from .rows import Shape, shape_of

VERSION = 3
EVERY = 1.0  # seconds between two reports of progress
POLL = 0.1  # seconds between two looks at a lock


@dataclass(frozen=True)
class ReadOptions:
    """How files become tokens, and where progress is reported.

    cache: folder of the entries. field: where rows hold their text or messages, None for the usual
    names. skip_broken: skip rows that cannot be used. emit, cancelled: those of a job. format:
    of the rows, or ``auto``. chat: how conversations become ids, and with which id texts end; None
    reads texts alone, without an end. workers: processes that render conversations. preferences:
    whether rows are to hold two answers; no file mixes them with others, and no training does.
    """

    cache: Path
    field: str | None = None
    skip_broken: bool = False
    emit: Callable[..., None] = lambda *_, **__: None
    cancelled: Callable[[], bool] = lambda: False
    format: str = "auto"
    chat: Rule | None = None
    workers: int = 1
    preferences: bool = False


@dataclass(frozen=True)
class Entry:
    """A finished entry. name: the file as errors and lists call it. format: of its rows."""

    key: str
    name: str
    folder: Path
    dtype: str
    counts: Counts
    format: str

    @property
    def targets(self) -> Path | None:
        """Where it says which tokens count; None where all do."""
        return None if self.format == "text" else self.folder / "targets.bin"

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows [first, last) of documents.bin, uint64 [n, 3]."""
        path = self.folder / "documents.bin"
        flat = np.fromfile(path, "<u8", 3 * (last - first), offset=first * ROW)
        return flat.reshape(-1, 3)


class Cache:
    """Entries under one tokenizer. Processes share the folder; a lock a file keeps them apart."""

    def __init__(self, tokenizer: Tokenizer, reading: ReadOptions):
        self.tokenizer, self.reading = tokenizer, reading
        self.identity = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
        largest = max(tokenizer.get_vocab().values(), default=0)
        self.dtype = "<u2" if largest < 1 << 16 else "<u4"

    def entry(self, path: Path, own: bool = False) -> Entry:
        """The entry of a file, made now or earlier. ``own``: rows that Lockstep wrote, in the usual
        fields whatever the user's rows look like.

        Raises LS_TRAIN_DATA, LS_TRAIN_TEXT, LS_TRAIN_DISK, LS_TRAIN_CACHE; ``Cancelled``.
        """
        with self._troubles(path):
            stat = path.stat()
            asked = ("auto", None) if own else (self.reading.format, self.reading.field)
            shape = shape_of(path, *asked)
            if shape.format != "text" and self.reading.chat is None:
                raise LockstepError(
                    "LS_TRAIN_FORMAT",
                    f"expected texts, got {shape.format} in {path}",
                    "Conversations are for training: name texts, or a column of text with "
                    "data.field.",
                    "data.format",
                )
            self._check_answers(path, shape)
            tick = Ticker(self.reading, path, "reading", stat.st_size)
            key = self._key(shape, path, sha256(path, self.reading.cache, tick))
            folder = self.reading.cache / key
            entry = self._open(key, path, shape)
            if entry is None:
                folder.parent.mkdir(parents=True, exist_ok=True)
                with self._lock(folder.with_name(f"{key}.lock"), path):
                    entry = self._open(key, path, shape) or self._make(key, path, stat, shape)
        if entry.counts.broken and not self.reading.skip_broken:
            raise broken_error(path, entry.counts)
        return entry

    def _check_answers(self, path: Path, shape: Shape) -> None:
        if (shape.format == "preference") == self.reading.preferences:
            return
        if self.reading.preferences:
            expected, fix = (
                "rows of two answers, as training.dpo is set",
                "Take the file out of data",
            )
        else:
            expected = "texts or conversations"
            fix = "Set training.dpo: {} to train on preferences"
        raise LockstepError(
            "LS_TRAIN_FORMAT",
            f"expected {expected}, got {shape.format} in {path}",
            f"{fix}, or set data.format to what its rows hold.",
            "data.format",
        )

    def _key(self, shape: Shape, path: Path, content: str) -> str:
        packed, chat = compression_of(path), self.reading.chat
        rule: list[Any] = [VERSION, tokenizers.__version__, self.identity, content, packed]
        rule += shape.identity()
        if shape.format != "text" and chat is not None:
            rule += chat.identity()
        elif chat is not None and chat.end is not None:
            rule += [chat.end, sorted(chat.ends)]
        return hashlib.sha256(json.dumps(rule).encode()).hexdigest()[:40]

    def _open(self, key: str, path: Path, shape: Shape) -> Entry | None:
        """The finished entry, if there is a whole one; one that is cut short is taken away."""
        folder = self.reading.cache / key
        try:
            meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
            counts = Counts(**meta["counts"])
            entry = Entry(key, str(path), folder, meta["dtype"], counts, shape.format)
            wanted = [counts.tokens * np.dtype(meta["dtype"]).itemsize, counts.documents * ROW]
            files = [folder / "tokens.bin", folder / "documents.bin"]
            if entry.targets is not None:
                wanted.append(counts.tokens)
                files.append(entry.targets)
            if wanted == [file.stat().st_size for file in files]:
                return entry
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (ValueError, KeyError, TypeError):
            pass
        self.reading.emit(
            "warning",
            step=0,
            code="LS_TRAIN_CACHE",
            message=f"the cached tokens of {path} are damaged; it is tokenized again",
        )
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def _make(self, key: str, path: Path, stat: os.stat_result, shape: Shape) -> Entry:
        folder, reading = self.reading.cache / key, self.reading
        part = folder.with_name(f"{key}.part")
        rule, counts = reading.chat, Counts()
        end, ends = (None, frozenset[int]()) if rule is None else (rule.end, rule.ends)
        with ExitStack() as stack:
            encoder = None
            if shape.format != "text" and rule is not None:
                encoder = stack.enter_context(Encoder(self.tokenizer, rule, reading.workers))
            build = Build(part, self.tokenizer, self.dtype, counts, end, ends, encoder)
            tick = Ticker(reading, path, "tokenizing", stat.st_size, counts)
            stack.enter_context(build)
            build.run(path, shape, reading.skip_broken, tick)
        now = path.stat()
        if (now.st_size, now.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
            shutil.rmtree(part, ignore_errors=True)
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected {path} to stay as it is while it is read, got a change",
                "Start again when the file is complete.",
            )
        build.seal({"source": path.name, "dtype": self.dtype, "counts": asdict(counts)}, folder)
        return Entry(key, str(path), folder, self.dtype, counts, shape.format)

    @contextmanager
    def _lock(self, lock: Path, path: Path) -> Iterator[None]:
        with lock.open("wb") as file:
            tick = Ticker(self.reading, path, "waiting", 0)
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    tick(0)
                    time.sleep(POLL)
            yield
            # The entry exists now: a process that waited, or that makes a new lock, finds it.
            lock.unlink(missing_ok=True)

    @contextmanager
    def _troubles(self, path: Path) -> Iterator[None]:
        cache = self.reading.cache
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise LockstepError(
                    "LS_TRAIN_DISK",
                    f"expected disk space for the tokens of {path} in {cache}, got: "
                    f"{error.strerror}",
                    "Free disk space, or name another folder with data.cache; what was tokenized "
                    "stays.",
                    "data.cache",
                ) from error
            if error.filename is not None and Path(error.filename) == path:
                raise LockstepError(
                    "LS_TRAIN_DATA", f"expected {path} to be readable, got {error.strerror}"
                ) from error
            raise LockstepError(
                "LS_TRAIN_CACHE",
                f"expected a folder for tokenized texts at {cache}, got: {error}",
                "Make it writable, or name another folder with data.cache.",
                "data.cache",
            ) from error


class Ticker:
    """Progress of one file, at most once a second; raises ``Cancelled`` when asked to stop."""

    def __init__(
        self, reading: ReadOptions, path: Path, stage: str, total: int, counts: Counts | None = None
    ):
        self.reading, self.path, self.stage, self.total = reading, path, stage, total
        self.counts, self.at = counts, time.monotonic()

    def __call__(self, done: int) -> None:
        if self.reading.cancelled():
            raise Cancelled
        if time.monotonic() - self.at < EVERY:
            return
        self.at = time.monotonic()
        self.reading.emit(
            "data",
            stage=self.stage,
            file=str(self.path),
            done=done,
            total=self.total,
            documents=self.counts.documents if self.counts else 0,
            tokens=self.counts.tokens if self.counts else 0,
        )
