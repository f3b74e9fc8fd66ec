"""Writing a directory so that it is either the old one or the new one, whatever happens."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from lockstep.errors import LockstepError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
RENAME_EXCHANGE = 2
AT_FDCWD = -100


def sibling(target: Path, kind: str) -> Path:
    """The hidden directory next to ``target`` that a save uses.

    kind: ``new`` (being written; after the swap the one that was replaced), ``old`` (the replaced
    one where names cannot be swapped in one step), ``gone`` (being removed).
    """
    return target.parent / f".{target.name}.{kind}"


def discard(directory: Path) -> None:
    """Remove a directory whose name means nothing to anybody; what resists stays."""
    shutil.rmtree(directory, ignore_errors=True)


def replace_directory(
    target: Path, fill: Callable[[Path], None], retire: Callable[[Path], None] = discard
) -> None:
    """Make ``target`` the directory that ``fill(new)`` writes.

    ``new`` is a fresh directory beside ``target``. Everything in it is synced to disk before it
    takes the name; until then ``target`` stays as it was, also when ``fill`` fails.
    ``retire(old)`` gets the directory that had the name before. Raises LS_TRAIN_DISK when the disk
    is full and LS_TRAIN_WRITE when it cannot be written for another reason; nothing is left behind.
    """
    new = sibling(target, "new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        discard(new)
        new.mkdir()
        fill(new)
        for path in sorted(new.rglob("*"), reverse=True):
            sync(path)
        sync(new)
        old = _swap(new, target)
    except Exception as error:
        discard(new)
        refuse(error, target)
        raise
    # From here on ``old`` is the previous checkpoint: an error must not remove it.
    try:
        sync(target.parent)
        if old is not None:
            retire(old)
    except OSError as error:
        refuse(error, target)
        raise


def check_writable(target: Path) -> None:
    """Raise LS_TRAIN_WRITE or LS_TRAIN_DISK now where a save would later, after hours of work."""
    probe = sibling(target, "new")
    try:
        probe.mkdir(parents=True, exist_ok=True)
        (probe / "probe").write_bytes(b"\0")
    except OSError as error:
        refuse(error, target)
        raise
    finally:
        discard(probe)


def refuse(error: BaseException, target: Path) -> None:
    """Raise an ``error`` of the system while writing as a user should read it; return at others."""
    number = _errno(error)
    if number is None:
        return
    kept = f"; {target} holds the last good checkpoint." if target.exists() else "."
    if number in FULL:
        raise LockstepError(
            "LS_TRAIN_DISK",
            f"expected disk space for a checkpoint next to {target}, got: {error}",
            f"Free disk space, then run `lockstep train --resume`{kept}",
        ) from error
    raise LockstepError(
        "LS_TRAIN_WRITE",
        f"expected to write a checkpoint next to {target}, got: {error}",
        f"Make {target.parent} a directory that you can write to, on a disk that works, then start "
        f"again or run `lockstep train --resume`{kept}",
    ) from error


def is_full(error: BaseException) -> bool:
    """True where ``error`` says that the disk, the quota or the allowed file size is exhausted."""
    return _errno(error) in FULL


def sync(path: Path) -> None:
    """Wait until the file or directory is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _errno(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors' errors carry no errno
    return int(found.group(1)) if found else None


def _swap(new: Path, target: Path) -> Path | None:
    """Give ``new`` the name ``target``; returns where the directory that had it now is."""
    if not target.exists():
        os.rename(new, target)
        return None
    if _exchange(new, target):
        return new
    old = sibling(target, "old")
    discard(old)
    os.rename(target, old)
    os.rename(new, target)
    return old


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one atomic step, where the system can (Linux, most file systems)."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    return bool(rename(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE) == 0)
