"""Documents and the sequences drawn from them."""

from __future__ import annotations

import glob
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lockstep.errors import LockstepError

# Characters handed to the tokenizer at once: its bookkeeping takes some 40 bytes a character, so a
# 100 MB document would otherwise need gigabytes.
PIECE = 1 << 20


@dataclass(frozen=True)
class Document:
    """One text file. ids_N: its token ids, without a beginning-of-sequence id."""

    path: str
    ids_N: np.ndarray


@dataclass(frozen=True)
class Corpus:
    """documents: what can be trained on. skipped: (path, reason) of files that hold no target."""

    documents: list[Document]
    skipped: list[tuple[str, str]]

    @property
    def tokens(self) -> int:
        return sum(len(d.ids_N) for d in self.documents)


def find(patterns: tuple[str, ...], root: Path) -> list[Path]:
    """Files of ``patterns`` (paths or globs under ``root``; ``!pattern`` takes out), sorted.

    Raises LS_TRAIN_DATA when a pattern names no file or nothing is left.
    """
    found: set[Path] = set()
    for pattern in (p for p in patterns if not p.startswith("!")):
        here = {p for p in map(Path, glob.glob(str(root / pattern), recursive=True)) if p.is_file()}
        if not here:
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected {pattern!r} to name a text file, got none",
                "Patterns are relative to the config file; check the path.",
                "training.data",
            )
        found |= here
    for pattern in (p[1:] for p in patterns if p.startswith("!")):
        found -= {Path(p) for p in glob.glob(str(root / pattern), recursive=True)}
    if not found:
        raise LockstepError(
            "LS_TRAIN_DATA",
            "expected training.data to leave at least one file, got none after taking out "
            + ", ".join(p for p in patterns if p.startswith("!")),
            field="training.data",
        )
    return sorted(found)


def read_text(path: Path) -> str:
    """Text of a UTF-8 file, line ends untouched, a byte order mark dropped.

    Raises LS_TRAIN_TEXT with the byte where UTF-8 ends, LS_TRAIN_DATA when it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise LockstepError(
            "LS_TRAIN_TEXT",
            f"expected UTF-8 text, got byte 0x{error.object[error.start]:02x} at offset "
            f"{error.start} of {path}",
            "Convert it (iconv -f ... -t utf-8), or take it out with a pattern '!file'.",
        ) from error
    except OSError as error:
        raise LockstepError(
            "LS_TRAIN_DATA", f"expected {path} to be readable, got {error.strerror}"
        ) from error


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """``text`` in parts of at most ``size`` characters that end with a line where they can."""
    at = 0
    while at < len(text):
        end = min(len(text), at + size)
        if end < len(text):
            line = text.rfind("\n", at, end)
            end = line + 1 if line > at else end
        yield text[at:end]
        at = end


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """Token ids of a document, int32 [N]. No special token is added."""
    parts = [
        np.asarray(tokenizer.encode(piece, add_special_tokens=False).ids, dtype=np.int32)
        for piece in pieces(text)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def load(patterns: tuple[str, ...], root: Path, tokenizer: Tokenizer, vocabulary: int) -> Corpus:
    """Read and tokenize every file of ``patterns``, one document a file.

    Files of fewer than two tokens have nothing to predict: they are skipped and counted.
    Raises LS_TRAIN_DATA, LS_TRAIN_TEXT, and LS_TRAIN_VOCABULARY for an id the model has no row for.
    """
    documents: list[Document] = []
    skipped: list[tuple[str, str]] = []
    for path in find(patterns, root):
        ids_N = encode(tokenizer, read_text(path))
        if len(ids_N) < 2:
            skipped.append((str(path), "empty" if len(ids_N) == 0 else "one token"))
            continue
        if int(ids_N.max()) >= vocabulary:
            raise LockstepError(
                "LS_TRAIN_VOCABULARY",
                f"expected token ids below {vocabulary}, got {int(ids_N.max())} in {path}",
                "Use the tokenizer.json that belongs to the model.",
            )
        documents.append(Document(str(path), ids_N))
    if not documents:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected text with at least two tokens, got {len(skipped)} files with fewer",
            field="training.data",
        )
    return Corpus(documents, skipped)


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

    def __init__(self, documents: list[Document], length: int, seed: int, bos: int | None):
        self.documents, self.seed, self.bos = documents, seed, bos
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

    def next(self, cursor: Cursor) -> list[int]:
        """Token ids of the next sequence, at least 2; moves the cursor."""
        if cursor.at >= len(self.windows(cursor.epoch)):
            cursor.epoch, cursor.at = cursor.epoch + 1, 0
        index, start, end = self.windows(cursor.epoch)[cursor.at]
        cursor.at += 1
        ids: list[int] = self.documents[index].ids_N[start:end].tolist()
        return ids if self.bos is None else [self.bos, *ids]
