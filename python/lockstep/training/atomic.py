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


def replace_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Make ``target`` the directory that ``fill(new)`` writes.

    ``new`` is a fresh directory beside ``target``. Everything in it is synced to disk before it
    takes the name; until then ``target`` stays as it was, also when ``fill`` fails. Raises
    LS_TRAIN_DISK when the disk is full and leaves nothing behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.parent / f".{target.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        fill(new)
        for path in sorted(new.rglob("*"), reverse=True):
            _sync(path)
        _sync(new)
        old = _swap(new, target)
        _sync(target.parent)
    except Exception as error:
        shutil.rmtree(new, ignore_errors=True)
        if is_full(error):
            raise LockstepError(
                "LS_TRAIN_DISK",
                f"expected room for a checkpoint beside {target}, got: {error}",
                "Free disk space, then go on with `lockstep train --resume`"
                + (f"; {target} holds the last good checkpoint." if target.exists() else "."),
            ) from error
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def recover(target: Path) -> None:
    """Give ``target`` its name back where a crash came between the two renames of a swap."""
    old = target.parent / f".{target.name}.old"
    if old.is_dir():
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(old, target)
    shutil.rmtree(target.parent / f".{target.name}.new", ignore_errors=True)


def is_full(error: BaseException) -> bool:
    """True where ``error`` says that the disk, the quota or the allowed file size is exhausted."""
    if isinstance(error, OSError):
        return error.errno in FULL
    found = re.search(r"\(os error (\d+)\)", str(error))  # safetensors' errors carry no errno
    return found is not None and int(found.group(1)) in FULL


def _swap(new: Path, target: Path) -> Path | None:
    """Give ``new`` the name ``target``; returns where the directory that had it now is."""
    if not target.exists():
        os.rename(new, target)
        return None
    if _exchange(new, target):
        return new
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
