"""The policy engine's WebAssembly: its bytes, checked and compiled once a process, and the clock
that stops it from outside.

The bytes are those of the npm package ``@jitl/quickjs-ng-wasmfile-release-sync`` 0.32.0 (quickjs-ng
0.12.1). They are next to this package as ``data/quickjs-ng.wasm`` (``npm run build`` copies them).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from functools import cache
from pathlib import Path

from wasmtime import Config, Engine, Module

from ..errors import LockstepError
from . import compiled

ENGINE_SHA256 = "b56fe5094b8751c47b8c32fb5ed4d75afe2dbb43412d3d983ac5d1156af456da"
ENGINE_NAME = "quickjs-ng 0.12.1"
ENGINE_FILE = Path(__file__).parents[1] / "data" / "quickjs-ng.wasm"

TICK = 0.05  # seconds between two looks at the clock from outside

#: Names of the functions in the module, as emscripten shortened them.
EXPORTS = {
    "constructors": "v",
    "malloc": "w",
    "set_memory_limit": "z",
    "set_max_stack_size": "E",
    "undefined": "F",
    "new_runtime": "L",
    "free": "N",
    "new_context": "O",
    "free_value": "Q",
    "free_c_string": "T",
    "new_array_buffer": "Y",
    "new_string": "$",
    "get_string": "aa",
    "call": "na",
    "resolve_exception": "oa",
    "eval": "qa",
    "enable_interrupts": "Ga",
}


@cache
def engine_and_module() -> tuple[Engine, Module]:
    """Compiled once a process. Raises ``LS_POLICY_ENGINE``: its file is missing or another one."""
    try:
        data = ENGINE_FILE.read_bytes()
    except OSError as error:
        raise LockstepError(
            "LS_POLICY_ENGINE",
            f"expected the policy engine at {ENGINE_FILE.name}, got {type(error).__name__}",
            "In a clone: npm run build; elsewhere install Lockstep again",
        ) from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != ENGINE_SHA256:
        raise LockstepError(
            "LS_POLICY_ENGINE",
            f"expected {ENGINE_FILE.name} with SHA-256 {ENGINE_SHA256}, got {actual}",
            "In a clone: npm run build; elsewhere install Lockstep again",
        )
    config = Config()
    config.epoch_interruption = True
    config.wasm_threads = False
    config.max_wasm_stack = 3 << 19  # bytes; the interpreter's own limit comes first
    engine = Engine(config)
    return engine, compiled.module(engine, data)


# The clock from outside: a thread that counts epochs while code runs.


class _Ticker:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.running = 0
        self.change = threading.Condition()
        self.thread: threading.Thread | None = None

    def loop(self) -> None:
        engine, _ = engine_and_module()
        while True:
            with self.change:
                while self.running == 0:
                    self.change.wait()
            time.sleep(TICK)
            engine.increment_epoch()


_ticker = _Ticker()


class ticking:
    """While it is entered, epochs go by."""

    def __enter__(self) -> None:
        global _ticker
        if _ticker.pid != os.getpid():
            # A fork copies no threads.
            _ticker = _Ticker()
        self.ticker = ticker = _ticker
        with ticker.change:
            ticker.running += 1
            if ticker.thread is None:
                ticker.thread = threading.Thread(
                    target=ticker.loop, name="lockstep-policy-clock", daemon=True
                )
                ticker.thread.start()
            ticker.change.notify()

    def __exit__(self, *_: object) -> None:
        with self.ticker.change:
            self.ticker.running -= 1


__all__ = [
    "ENGINE_FILE",
    "ENGINE_NAME",
    "ENGINE_SHA256",
    "EXPORTS",
    "TICK",
    "engine_and_module",
    "ticking",
]
