"""Content identity of files: SHA-256, remembered as long as a file is plainly the same."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 22
SETTLED = 2.0  # seconds: a file changed later than this before it was read may change unnoticed


def sha256(path: Path, cache: Path, tick: Callable[[int], None] = lambda done: None) -> str:
    """SHA-256 of a file's bytes.

    The sum is kept in ``cache`` under the file's path, size, times and inode, so that gigabytes
    are not read at every start; a file that changed within the last seconds is always read (git
    calls such an entry racily clean). ``tick`` is called with the number of bytes read.
    """
    stat = path.stat()
    identity = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    memo = cache / "seen" / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    try:
        known = memo.read_text(encoding="ascii")
        if len(known) == 64:
            return known
    except OSError:
        pass
    began, digest, done = time.time(), hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            done += len(block)
            tick(done)
    if began - max(stat.st_mtime, stat.st_ctime) > SETTLED:
        memo.parent.mkdir(parents=True, exist_ok=True)
        replace(memo, digest.hexdigest().encode())
    return digest.hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name ``path`` when it is whole, and on disk."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def replace(path: Path, content: bytes) -> None:
    """Write a small file so that it is the old one or the new one, whatever happens."""
    with replacing(path) as file:
        file.write(content)
