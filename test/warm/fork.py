"""What a fork of ``server.py`` does: become what ``python`` would be, run the program, and end."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import json
import os
import resource
import runpy
import signal
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any


def adopt(files: dict[int, int]) -> None:
    """Give open files the numbers that they have in the caller.

    ``files``: the number in the caller, and the one here, which no number in the caller equals.
    """
    for number, here in files.items():
        os.dup2(here, number, inheritable=True)
        os.close(here)
    for number in {0, 1, 2} - files.keys():
        os.close(number)


def become(
    request: dict[str, Any], added: dict[str, str], path: list[str], executable: str
) -> None:
    """``added``: variables that imports set; ``path``: ``sys.path`` without its first folder."""
    environment = request["environment"]
    os.environ.clear()
    os.environ.update(added | environment)
    os.chdir(request["cwd"])
    for limit, values in request["limits"].items():
        resource.setrlimit(limit, values)
    os.umask(request["umask"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)
    sys.executable = executable
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    _open_streams(request["unbuffered"] or bool(environment.get("PYTHONUNBUFFERED")))
    folders = [one for one in environment.get("PYTHONPATH", "").split(os.pathsep) if one]
    rest = [one for one in path if one not in folders]
    first = {"-m": request["cwd"], "-c": ""}.get(request["kind"])
    if first is None:
        first = str(Path(request["cwd"], request["what"]).parent)
    sys.path[:] = [first, *folders, *rest]
    importlib.invalidate_caches()
    _settle_lockstep()
    # As a new import seeds them; `random` seeds itself after a fork.
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].seed()
    if "OMP_NUM_THREADS" in environment:
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))


def _settle_lockstep() -> None:
    """Keep the imported Lockstep where this program would import the same files, forget it else."""
    package = sys.modules.pop("lockstep")
    found = importlib.util.find_spec("lockstep")
    sys.modules["lockstep"] = package
    own = Path(package.__file__)
    if found is not None and found.origin is not None and own.samefile(found.origin):
        # As its import does.
        os.environ.update(json.loads(own.with_name("no_telemetry.json").read_text()))
        return
    for name in [one for one in sys.modules if one.partition(".")[0] == "lockstep"]:
        del sys.modules[name]


def _open_streams(unbuffered: bool) -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        mode = "r" if number == 0 else "w"
        stream = os.fdopen(number, mode, encoding=old.encoding, errors=old.errors, closefd=False)
        if number > 0:
            lines = number == 2 or stream.isatty()
            stream.reconfigure(line_buffering=lines, write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(request: dict[str, Any]) -> int:
    """Run the program, and what an interpreter runs at its end; the exit code.

    As ``multiprocessing`` ends its forks: to take PyTorch apart would take a second.
    """
    code = 0
    try:
        _run(request["kind"], request["what"], request["arguments"])
    except SystemExit as end:
        if isinstance(end.code, int) or end.code is None:
            code = end.code or 0
        else:
            print(end.code, file=sys.stderr)
            code = 1
    except BaseException as error:
        here = error.__traceback__
        while here is not None and here.tb_frame.f_code.co_filename in (__file__, runpy.__file__):
            here = here.tb_next
        traceback.print_exception(type(error), error, here)
        code = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return code & 0xFF


def _run(kind: str, what: str, arguments: list[str]) -> None:
    sys.argv = ["-c" if kind == "-c" else what, *arguments]
    if kind == "-m":
        # It is imported as `__main__` alone: `runpy` warns of a second one.
        sys.modules.pop(what, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif kind == "script":
        runpy.run_path(what, run_name="__main__")
    else:
        main = types.ModuleType("__main__")
        main.__annotations__ = {}
        sys.modules["__main__"] = main
        exec(compile(what, "<string>", "exec"), main.__dict__)
