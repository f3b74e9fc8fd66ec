"""The documents of a training: found, tokenized once, split into trained and held-out ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lockstep.errors import LockstepError

from .cache import Cache, Entry, ReadOptions
from .files import find, kind_of
from .store import Document, Documents, Tokens, write_index

CHUNK = 1 << 18  # documents looked at in one go
NAMED = 3  # broken lines named in a list of what was skipped


@dataclass(frozen=True)
class Corpus:
    """documents: what can be trained on. tokens: theirs. skipped: (file, reason) of what is left
    out. held_out: documents to score, at most the limit that was asked for."""

    documents: Documents
    tokens: int
    skipped: list[tuple[str, str]]
    held_out: list[Document]
    entries: list[Entry]


def load(
    patterns: tuple[str, ...],
    root: Path,
    tokenizer: Tokenizer,
    vocabulary: int,
    reading: ReadOptions | None = None,
    *,
    fraction: float = 0.0,
    limit: int = 64,
    own: Path | None = None,
) -> Corpus:
    """The documents of every file of ``patterns``, tokenized now or found in the cache.

    A text file is one document, a row of any other file is one. Documents of fewer
    than two tokens have nothing to predict: they are skipped and counted. ``fraction`` of the
    documents, chosen by a hash of their text, is taken out; those of smallest hash among them, at
    most ``limit``, are ``held_out``. The cache lies in .lockstep/cache under ``root`` unless
    ``reading`` says otherwise. ``own``: a file of rows that Lockstep wrote (`recall_rows`), read
    behind the others.

    Raises LS_TRAIN_DATA, LS_TRAIN_TEXT, LS_TRAIN_BROKEN, LS_TRAIN_DISK, LS_TRAIN_CACHE, and
    LS_TRAIN_VOCABULARY for an id the model has no row for; ``Cancelled``.
    """
    reading = reading or ReadOptions(root / ".lockstep" / "cache")
    cache = Cache(tokenizer, reading)
    entries = []
    for path in [*find(patterns, root), *([own] if own else [])]:
        entry = cache.entry(path, own=path == own)
        if entry.counts.largest >= vocabulary:
            raise LockstepError(
                "LS_TRAIN_VOCABULARY",
                f"expected token ids below {vocabulary}, got {entry.counts.largest} in {path}",
                "Use the tokenizer.json that belongs to the model.",
            )
        entries.append(entry)
    edge = int(fraction * 2.0**64)
    documents = _trained(entries, edge, reading.cache / "index")
    if not len(documents):
        raise _nothing_left(entries, fraction)
    count = sum(
        int(documents.lengths(at, at + CHUNK).sum()) for at in range(0, len(documents), CHUNK)
    )
    skipped = [(e.name, reason) for e in entries if (reason := _reason(e))]
    held_out = _smallest(entries, documents, limit, edge) if fraction else []
    if fraction and not held_out:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected a share of {fraction:g} to hold out at least one document, got none of "
            f"{len(documents)}",
            "Documents are held out whole, by a hash of their text: raise the share, name files to "
            "hold out, or give the text as more documents (JSON lines).",
            "data.validation",
        )
    return Corpus(documents, count, skipped, held_out, entries)


def scored(corpus: Corpus, limit: int) -> list[Document]:
    """At most ``limit`` documents of a held-out corpus, chosen by a hash of their text."""
    return _smallest(corpus.entries, corpus.documents, limit, 1 << 64)


def shared(corpus: Corpus, others: Corpus) -> int:
    """Number of ``corpus``' documents whose text is that of one of ``others``."""
    known = np.unique(np.concatenate([rows[:, 2] for _, rows in _rows(others.entries)]))
    return sum(int(np.isin(rows[:, 2], known).sum()) for _, rows in _rows(corpus.entries))


def _trained(entries: Sequence[Entry], edge: int, folder: Path) -> Documents:
    """The documents whose hash is at least ``edge``; their index is written to ``folder``."""
    rule = json.dumps([[e.key for e in entries], edge])
    digest = hashlib.sha256(rule.encode()).hexdigest()[:40]
    kept = (_index(file, rows[rows[:, 2] >= edge]) for file, rows in _rows(entries))
    index_N3 = write_index(folder / f"{digest}.bin", kept)
    masks = [None if e.targets is None else str(e.targets) for e in entries]
    tokens = Tokens([(str(e.folder / "tokens.bin"), e.dtype) for e in entries], masks)
    return Documents([e.name for e in entries], tokens, index_N3, digest)


def _nothing_left(entries: Sequence[Entry], fraction: float) -> LockstepError:
    few = sum(e.counts.empty + e.counts.single for e in entries)
    none = sum(e.counts.untargeted + e.counts.long for e in entries)
    return LockstepError(
        "LS_TRAIN_DATA",
        f"expected text with at least two tokens, got {few} documents with fewer"
        + (f" and {none} conversations without a target within training.sequence" if none else "")
        + (f" and {sum(e.counts.documents for e in entries)} held out" if fraction else ""),
        field="training.data",
    )


def _rows(entries: Sequence[Entry]) -> Iterator[tuple[int, np.ndarray]]:
    """(file, rows [first token, tokens, hash]) of all documents, a chunk at a time."""
    for file, entry in enumerate(entries):
        for first in range(0, entry.counts.documents, CHUNK):
            yield file, entry.rows(first, min(entry.counts.documents, first + CHUNK))


def _index(file: int, rows: np.ndarray) -> np.ndarray:
    out = np.empty((len(rows), 3), dtype=np.int64)
    out[:, 0] = file
    out[:, 1:] = rows[:, :2]
    return out


def _smallest(
    entries: Sequence[Entry], documents: Documents, limit: int, edge: int
) -> list[Document]:
    """The ``limit`` documents of smallest hash below ``edge``, in the order of the files."""
    best: list[tuple[int, int, int, int]] = []
    for file, rows in _rows(entries):
        few = rows if edge == 1 << 64 else rows[rows[:, 2] < edge]
        if len(few) > limit:
            few = few[np.argpartition(few[:, 2], limit)[:limit]]
        best += [(int(value), file, int(start), int(size)) for start, size, value in few]
        best = sorted(best)[:limit]
    return [
        documents.document(file, start, size)
        for _, file, start, size in sorted(best, key=lambda row: row[1:])
    ]


def _reason(entry: Entry) -> str:
    """What of a file was left out; nothing where all of it counts."""
    counts = entry.counts
    if kind_of(Path(entry.name)) == "text":
        return "empty" if counts.empty else "one token" if counts.single else ""
    parts = [
        f"{number} {noun}"
        for number, noun in (
            (counts.empty, "empty"),
            (counts.single, "of one token"),
            (counts.untargeted, "without a target"),
            (counts.long, "whose first answer is too long for a sequence"),
            (counts.cut, "cut behind an answer, as they are too long for a sequence"),
            (counts.joined, "answers whose first token is not trained, as it begins in the header"),
            (
                counts.headed,
                "headers written as in a prompt, which is not how the whole text has them",
            ),
            (counts.broken, "broken"),
        )
        if number
    ]
    named = "; ".join(f"line {line}: {reason}" for line, reason in counts.examples[:NAMED])
    return ", ".join(parts) + (f" ({named})" if named else "")
