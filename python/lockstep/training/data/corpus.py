"""Documents: text files, read and tokenized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lockstep.errors import LockstepError

from .files import find

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
