"""Runs a command, and ends it with all that it started when the process that asked for it ends.

``python -I guard.py GRACE COMMAND ...``: Node (`src/bridge/service.ts`) holds the other end of
stdin. When stdin ends (Node stopped it, or was killed), the command gets SIGTERM and GRACE seconds,
then it and everything it started is killed. If the command ends by itself and leaves processes
behind, these are killed too. The guard adopts orphans (it is a child subreaper), so that it finds
all of them.

It imports only the standard library and nothing of this package: it must start at once, and work
even if the package is broken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Exit code: the command's own; 128 + n where signal n ended it."""
    grace, command = float(arguments[0]), arguments[1:]
    # Ctrl-C in a terminal is Node's to answer; it ends us through stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, ask)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_die_with_guard)
    deadline: float | None = None
    while child.poll() is None:
        _reap(child.pid)
        if not asked:
            # EOF makes stdin readable for ever: it is looked at only until then.
            ready = select.select([0], [], [], 0.1)[0]
            asked = asked or bool(ready and os.read(0, 4096) == b"")
        else:
            time.sleep(0.02)
        if asked and deadline is None:
            deadline = time.monotonic() + grace
            child.terminate()
        if deadline is not None and time.monotonic() > deadline:
            child.kill()
    _kill_rest()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _die_with_guard() -> None:
    """In the child, before it becomes the command: SIGKILL when the guard itself is killed."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _reap(mine: int) -> None:
    """Ask for the ends of adopted processes; the command's own end is `subprocess`'s to ask for."""
    for pid in _children(os.getpid()):
        if pid != mine:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_rest() -> None:
    """Kill what is left of the command, until nothing is."""
    for _ in range(500):
        left = _children(os.getpid())
        if not left:
            return
        for pid in _tree(left):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] > 0:
                pass
        time.sleep(0.01)


def _tree(roots: list[int]) -> list[int]:
    found = list(roots)
    for pid in found:
        found.extend(_children(pid))
    return found


def _children(pid: int) -> list[int]:
    """Direct children, of every thread of the process; none where there is no /proc."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found.extend(int(word) for word in (task / "children").read_text().split())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
