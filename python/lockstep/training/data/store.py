"""Documents as they lie in the cache: memory maps, opened when needed, a few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from .fingerprint import replacing

OPEN = 64  # memory maps open at once: each holds a file descriptor


@dataclass(frozen=True)
class Document:
    """One document. path: its file, with its number there where a file holds several.
    ids_N: its token ids, without a beginning-of-sequence id. mask_N: which of them count as
    targets, None where all do."""

    path: str
    ids_N: np.ndarray
    mask_N: np.ndarray | None = None


class Tokens:
    """Token files by number. Files are (path, dtype); masks: where a file says which of its tokens
    count as targets, None where all do."""

    def __init__(self, files: Sequence[tuple[str, str]], masks: Sequence[str | None] | None = None):
        self.files = list(files)
        self.masks = list(masks) if masks is not None else [None] * len(files)
        self._maps: OrderedDict[str, np.ndarray] = OrderedDict()

    def read(self, file: int, start: int, end: int) -> np.ndarray:
        """Ids [start, end) of a file: a view into its memory map."""
        return self._map(*self.files[file])[start:end]

    def mask(self, file: int, start: int, end: int) -> np.ndarray | None:
        """Which of them count, uint8; None: all."""
        path = self.masks[file]
        return None if path is None else self._map(path, "u1")[start:end]

    def _map(self, path: str, dtype: str) -> np.ndarray:
        opened = self._maps.get(path)
        if opened is None:
            opened = np.memmap(path, dtype, mode="r")
            self._maps[path] = opened
            if len(self._maps) > OPEN:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end(path)
        return opened


class Documents(Sequence[Document]):
    """Documents of a corpus. index_N3: rows [file, first token, tokens], int64; a memory map, so
    that their number costs no memory."""

    def __init__(self, names: Sequence[str], tokens: Tokens, index_N3: np.ndarray, digest: str):
        self.names, self.tokens, self.index_N3, self.digest = names, tokens, index_N3, digest

    def __len__(self) -> int:
        return len(self.index_N3)

    @overload
    def __getitem__(self, at: int) -> Document: ...
    @overload
    def __getitem__(self, at: slice) -> list[Document]: ...
    def __getitem__(self, at: int | slice) -> Document | list[Document]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        file, start, length = map(int, self.index_N3[at])
        return self.document(file, start, length)

    def document(self, file: int, start: int, length: int) -> Document:
        """The document of ``length`` tokens that begins at token ``start`` of a file."""
        end = start + length
        ids_N, mask_N = self.tokens.read(file, start, end), self.tokens.mask(file, start, end)
        return Document(self.names[file], ids_N, mask_N)

    def __iter__(self) -> Iterator[Document]:
        return (self[i] for i in range(len(self)))

    def lengths(self, first: int, last: int) -> np.ndarray:
        """Tokens of documents [first, last), int64."""
        return np.asarray(self.index_N3[first:last, 2])

    def ids(self, at: int, start: int, end: int) -> list[int]:
        """Ids [start, end) of a document."""
        file, first, _ = map(int, self.index_N3[at])
        out: list[int] = self.tokens.read(file, first + start, first + end).tolist()
        return out


def write_index(path: Path, parts: Iterator[np.ndarray]) -> np.ndarray:
    """Write index rows to ``path`` and map them; an index that exists already is taken as it is."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype="<i8").tobytes())
    if not path.stat().st_size:
        return np.zeros((0, 3), dtype=np.int64)
    return np.memmap(path, "<i8", mode="r").reshape(-1, 3)
