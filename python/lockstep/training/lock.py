"""One trainer a checkpoint: two that wrote the same `out` would destroy each other's work."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import LockstepError
from lockstep.training.atomic import refuse, sibling


@contextlib.contextmanager
def exclusive(out: Path, name: str = "lock") -> Iterator[None]:
    """Hold the lock ``name`` of ``out``. Raises LS_TRAIN_BUSY where another process holds it.

    The lock is the kernel's, on a file beside ``out``: it ends with the process, however that ends,
    and a child that outlives the process does not hold it.
    """
    path = sibling(out, name)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path, out)
    except OSError as error:
        refuse(error, out)
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path, out: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(descriptor, 20).decode() or "unknown"
            os.close(descriptor)
            raise LockstepError(
                "LS_TRAIN_BUSY",
                f"expected no other training to write {out}, got one (process {holder})",
                "Wait until it has ended, or choose another `out`.",
                "out",
            ) from None
        # The former holder may have removed the file before we locked it. Then our lock is on a
        # file without a name, which no other process can see.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.truncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
                return descriptor
        os.close(descriptor)
