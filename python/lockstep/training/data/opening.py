"""Data files as streams of bytes: plain, or compressed with gzip or Zstandard."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lockstep.errors import LockstepError

from .files import compression_of
from .tables import need_arrow

BLOCK = 1 << 20


class Stream:
    """A data file, unpacked. ``done``: bytes of the file itself read so far, for progress."""

    def __init__(self, raw: BinaryIO, unpacked: Any):
        self._raw, self.bytes = raw, unpacked

    @property
    def done(self) -> int:
        return self._raw.tell()

    def skip(self, count: int) -> None:
        """Go on behind the first ``count`` unpacked bytes."""
        if self.bytes is self._raw:
            self._raw.seek(count)
            return
        while count and (passed := len(self.bytes.read(min(count, BLOCK)))):
            count -= passed


@contextmanager
def opened(path: Path) -> Iterator[Stream]:
    """Raises LS_TRAIN_DATA for a compressed file that is damaged or cut short."""
    packed = compression_of(path)
    with path.open("rb") as raw:
        if packed is None:
            yield Stream(raw, raw)
            return
        try:
            if packed == "gzip":
                yield Stream(raw, gzip.GzipFile(fileobj=raw))
                return
            arrow: Any = need_arrow(path)
            source = arrow.CompressedInputStream(arrow.PythonFile(raw, mode="r"), "zstd")
            yield Stream(raw, io.BufferedReader(source, BLOCK))
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the system, not of the format
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected a whole {packed} file, got {path}: {error}",
                "Make or fetch the file again.",
            ) from error
