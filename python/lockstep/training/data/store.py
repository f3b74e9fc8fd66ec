"""Documents as they lie in the cache: memory maps, opened when needed, a few at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from .identity import replacing

OPEN = 64  # memory maps open at once: each holds a file descriptor


@dataclass(frozen=True)
class Document:
    """One document. path: its file, with its number there where a file holds several.
    ids_N: its token ids, without a beginning-of-sequence id."""

    path: str
    ids_N: np.ndarray


class Tokens:
    """Token files by number. Files are (path, dtype)."""

    def __init__(self, files: Sequence[tuple[str, str]]):
        self.files = list(files)
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, file: int, start: int, end: int) -> np.ndarray:
        """Ids [start, end) of a file: a view into its memory map."""
        opened = self._maps.get(file)
        if opened is None:
            path, dtype = self.files[file]
            opened = np.memmap(path, dtype, mode="r")
            self._maps[file] = opened
            if len(self._maps) > OPEN:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end(file)
        return opened[start:end]


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
        return Document(self.names[file], self.tokens.read(file, start, start + length))

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
