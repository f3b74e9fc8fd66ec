"""A job: one Python function in a child process that reports events and can be cancelled.

Node starts it (`src/bridge/job.ts`) with the description as the first line of stdin, and reads
events as NDJSON from the descriptor in ``LOCKSTEP_EVENTS_FD``. Without that variable (a job run by
hand: ``echo '{...}' | python -m lockstep.evaluation.perplexity``) events go to stdout.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ..errors import LockstepError

# A plain flag: a signal handler that set a threading.Event could wait for the very lock that the
# interrupted code holds.
_stopping = False
_write_lock = threading.Lock()


class Cancelled(Exception):
    """The job was asked to stop and has nothing worth returning."""


def _from_node() -> bool:
    return "LOCKSTEP_EVENTS_FD" in os.environ


def _events_fd() -> int:
    return int(os.environ.get("LOCKSTEP_EVENTS_FD", "1"))


def cancelled() -> bool:
    """True once the job should stop: SIGTERM, Ctrl-C, or the parent process is gone."""
    return _stopping


def check_cancelled() -> None:
    """Raise `Cancelled` once the job should stop."""
    if _stopping:
        raise Cancelled


def emit(event: str, **fields: Any) -> None:
    """Write one event. Thread-safe.

    JSON has no NaN and no infinity: both are written as null. Tensors and numpy scalars must be
    turned into numbers by the caller.
    """
    record = {"event": event, **fields}
    try:
        text = json.dumps(record, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(record), allow_nan=False)
    data = memoryview(text.encode() + b"\n")
    descriptor = _events_fd()
    with _write_lock:
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EBADF):
                raise
            _ask_to_stop()  # nobody reads any more


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def as_error(error: BaseException) -> dict[str, str]:
    """``{code, message, fix?, field?, traceback?}`` of any exception; the traceback only with
    LOCKSTEP_DEBUG set."""
    if isinstance(error, LockstepError):
        out = error.as_dict()
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        out = LockstepError(
            "LS_PYTHON_MEMORY",
            f"expected enough memory, got none left ({error})",
            "Use a smaller model, segment or batch.",
        ).as_dict()
    elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        out = LockstepError(
            "LS_DISK_FULL",
            f"expected free disk space, got none while writing {error.filename or 'a file'}",
            "Free space or write to another disk.",
        ).as_dict()
    else:
        fix = "Set LOCKSTEP_DEBUG=1 to see where in Python it happened."
        out = LockstepError(
            "LS_PYTHON_FAILED",
            f"{type(error).__name__}: {error}",
            None if os.environ.get("LOCKSTEP_DEBUG") else fix,
        ).as_dict()
    if os.environ.get("LOCKSTEP_DEBUG"):
        out["traceback"] = "".join(traceback.format_exception(error))
    return out


def main(run: Callable[[dict[str, Any]], dict[str, Any] | None]) -> NoReturn:
    """Run ``run(description)`` as this process's job; what it returns is the ``result`` event.

    An exception becomes ``{"event": "error", code, message, fix}`` and exit code 1; `Cancelled`
    becomes ``{"event": "cancelled"}`` and exit code 3.
    """
    code = 1
    try:
        _die_with_parent()
        _take_signals()
        description = _read_description()
        if _from_node():
            _watch_parent()
        result = run(description)
        emit("result", **(result or {}))
        code = 0
    except Cancelled:
        emit("cancelled")
        code = 3
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException as error:
        report = as_error(error)
        if "traceback" in report:
            sys.stderr.write(report["traceback"])
        emit("error", **report)
    _flush()
    # Without interpreter shutdown: a library's thread (or the watcher) cannot hold the process up.
    os._exit(code)


def _read_description() -> dict[str, Any]:
    line = sys.stdin.readline()
    try:
        description = json.loads(line)
    except ValueError as error:
        raise LockstepError(
            "LS_JOB_DESCRIPTION",
            f"expected one line of JSON on stdin, got {line[:80]!r}",
            "Start jobs through runJob of src/bridge/job.ts.",
        ) from error
    if not isinstance(description, dict):
        raise LockstepError(
            "LS_JOB_DESCRIPTION", f"expected a JSON object on stdin, got {line[:80]!r}"
        )
    return description


def _ask_to_stop(*_: object) -> None:
    global _stopping
    _stopping = True


def _take_signals() -> None:
    signal.signal(signal.SIGTERM, _ask_to_stop)
    # A terminal's Ctrl-C reaches the whole process group; under Node it is Node that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN if _from_node() else _ask_to_stop)
    if _events_fd() > 2:
        os.set_inheritable(_events_fd(), False)


def _die_with_parent() -> None:
    """Linux: the kernel sends SIGTERM when the parent's thread ends. Elsewhere `_watch_parent`."""
    if not (_from_node() and sys.platform == "linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # the watcher below notices too
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _watch_parent() -> None:
    """End of stdin means that the parent is gone: ask the job to stop, then insist."""

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        _ask_to_stop()
        time.sleep(float(os.environ.get("LOCKSTEP_GRACE_SECONDS", "30")))
        os._exit(143)

    threading.Thread(target=watch, name="lockstep-parent-watch", daemon=True).start()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
