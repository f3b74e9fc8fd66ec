"""WebAssembly compiled to machine code, kept beside Python's bytecode.

wasmtime takes 0.7 s of processor time to compile the policy engine; every process that reads a
contract needs it. The file lies where Python keeps the bytecode of this module, is trusted as that
is, and is written under the same conditions (``PYTHONDONTWRITEBYTECODE``, ``PYTHONPYCACHEPREFIX``).
Its name holds what it depends on; wasmtime refuses code of another version or another processor.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
import tempfile
from importlib import metadata
from importlib.util import cache_from_source
from pathlib import Path

from wasmtime import Engine, Module, WasmtimeError

_SHA256 = hashlib.sha256().digest_size


def module(engine: Engine, data: bytes) -> Module:
    """``data`` as a module of ``engine``, whose settings must be the same for the same data."""
    file = _file(data)
    kept = _read(file)
    if kept is not None:
        with contextlib.suppress(WasmtimeError):
            return Module.deserialize(engine, kept)
    made = Module(engine, data)
    if not sys.dont_write_bytecode:
        _write(file, bytes(made.serialize()))
    return made


def _file(data: bytes) -> Path:
    digest = hashlib.sha256(data).hexdigest()[:16]
    name = f"{digest}.wasmtime-{metadata.version('wasmtime')}.{platform.machine()}.machine-code"
    return Path(cache_from_source(__file__)).parent / name


def _read(file: Path) -> bytes | None:
    """The code; None where there is none, or only a part of it: wasmtime does not look for that."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, code = content[:_SHA256], content[_SHA256:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    """Whole or not at all. Where this is not possible, the next process compiles again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        try:
            os.chmod(name, 0o644)  # for every user, as bytecode is
            with os.fdopen(descriptor, "wb") as part:
                part.write(hashlib.sha256(code).digest() + code)
            os.replace(name, file)
        except OSError:
            os.unlink(name)
