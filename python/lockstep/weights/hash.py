"""SHA-256 of large files, computed once: remembered by inode, size and time of change in the user's
cache folder (counterpart of src/weights/hash.ts, which reads and writes the same file)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
import uuid
from pathlib import Path

#: Files of fewer bytes are hashed each time: that takes a few ms.
CACHED_FROM = 16 * 2**20
#: Within so long after a change, a further one might leave the same time behind. Milliseconds.
_SETTLED = 2_000
_MOST_ENTRIES = 256
_CHUNK = 1 << 20


def hash_once(
    file: Path, part: tuple[int, int] | None = None, cached_from: int = CACHED_FROM
) -> str:
    """SHA-256 of a file, or of its bytes [begin, end), in lowercase hexadecimal digits.

    cached_from: bytes from which a hash is remembered.
    """
    before = file.stat()
    begin, end = part or (0, before.st_size)
    if end - begin < cached_from:
        return _hash(file, begin, end)
    key = _key(before, begin, end)
    known = _read_cache().get(key)
    if known is not None:
        return known
    started = time.time_ns() // 1_000_000
    sha256 = _hash(file, begin, end)
    after = file.stat()
    old = started - after.st_mtime_ns // 1_000_000 > _SETTLED
    if old and _key(after, begin, end) == key:
        _remember(key, sha256)
    return sha256


def _key(found: os.stat_result, begin: int, end: int) -> str:
    """No path: hard links, which attach makes, are one file. No ctime: making and removing them
    sets it."""
    parts = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, begin, end
    return ":".join(map(str, parts))


def _hash(file: Path, begin: int, end: int) -> str:
    digest, left = hashlib.sha256(), end - begin
    with file.open("rb") as stream:
        stream.seek(begin)
        while left > 0 and (chunk := stream.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def cache_file() -> Path:
    """The cache's file: under ``XDG_CACHE_HOME``, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "lockstep" / "weights.json"


def _read_cache() -> dict[str, str]:
    """What is remembered; nothing where the file is absent, damaged or another user could have
    written it."""
    try:
        file = cache_file()
        if not _is_ours(file.parent) or not _is_ours(file):
            return {}
        held = json.loads(file.read_bytes().decode("utf-8"))
    except (OSError, ValueError, RuntimeError):  # no home: RuntimeError
        return {}
    if not isinstance(held, dict):
        return {}
    return {
        key: value
        for key, value in held.items()
        if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value)
    }


def _is_ours(place: Path) -> bool:
    found = place.lstat()
    if not hasattr(os, "getuid"):
        return True  # Windows: the profile is the user's own
    return (
        not stat.S_ISLNK(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _remember(key: str, sha256: str) -> None:
    """Two writers at once may lose an entry, never the file. Without a place to write, nothing is
    kept."""
    temporary = None
    try:
        file = cache_file()
        temporary = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}.tmp")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(file.parent):
            return
        kept = dict(list(_read_cache().items())[1 - _MOST_ENTRIES :]) | {key: sha256}
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(kept, indent=1) + "\n")
        os.replace(temporary, file)
    except (OSError, RuntimeError):
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
