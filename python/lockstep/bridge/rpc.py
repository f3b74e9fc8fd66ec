"""Python's end of a `PythonSession` (`src/bridge/session.ts`): one function that takes and returns
JSON text.

Importing this module prepares a process that pythonia started: nothing but strings may cross
pythonia (a NaN would end Node), output goes to a log instead of Node's terminal, and the process
ends with its parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ..errors import LockstepError
from ..install import install
from .job import as_error

_written = 0


def handle(request: str) -> str:
    """Answer one call.

    ``request``: ``{"method": "module:function", "params": JSON text, "file": path of the params or
    null, "inline": limit of characters}``. The answer is ``{"result": ...}``, ``{"file": path}``
    for a result longer than the limit, or ``{"error": {code, message, fix?}}``. Never raises.
    """
    try:
        call = json.loads(request)
        file = call["file"]
        params = json.loads(Path(file).read_text("utf8") if file else call["params"])
        result = _function(call["method"])(**params)
        try:
            text = json.dumps(result, allow_nan=False)
        except ValueError as error:
            raise LockstepError(
                "LS_PYTHON_NAN",
                f"expected finite numbers from {call['method']}, got NaN or infinity",
                "Check the checkpoint's weights for NaN.",
            ) from error
        if len(text) > call["inline"]:
            return json.dumps({"file": _spill(text)})
        return f'{{"result": {text}}}'
    except BaseException as error:  # whatever leaves this function ends the session
        return json.dumps({"error": as_error(error)})


def info() -> dict[str, Any]:
    """What this process is: for `doctor` and tests."""
    return {
        "pid": os.getpid(),
        "executable": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
    }


def _function(method: str) -> Any:
    module, separator, name = method.partition(":")
    if not separator:
        raise LockstepError("LS_RPC_METHOD", f"expected module:function, got {method!r}")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LockstepError(
            "LS_RPC_METHOD",
            f"expected {method} to be a Python function, got {error}",
            f"{install('train')}: the npm package and the Python package must have the same "
            "version.",
        ) from error


def _spill(text: str) -> str:
    global _written
    _written += 1
    path = Path(os.environ["LOCKSTEP_RPC_LOG"]).with_name(f"out-{_written}.json")
    path.write_text(text, "utf8")
    return str(path)


def _prepare() -> None:
    # A Node process that we start would take this descriptor for its own channel.
    os.environ.pop("NODE_CHANNEL_FD", None)
    # pythonia's folder comes first on the path and has modules named `proxy` and `ws`.
    if sys.path and Path(sys.path[0]).name == "pythonia":
        del sys.path[0]
    # Ctrl-C in the terminal reaches the whole process group; Node decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        # Without it, the channel's end stops the process once it is idle.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    log = os.open(os.environ["LOCKSTEP_RPC_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)


if "LOCKSTEP_RPC_LOG" in os.environ:
    _prepare()
