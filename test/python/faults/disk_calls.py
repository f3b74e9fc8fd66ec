"""Runs a function in a child process and stops it at a chosen one of its calls to the disk.

The kernel's ptrace halts the child before each system call that changes something below a folder.
Between two such calls the disk does not change, so killing the child before each of them, one run
each, leaves every state that SIGKILL at any moment can leave; a write that was under way is cut in
half. The child is a fork: what this process has imported costs nothing again.

Linux on x86-64. Nothing of the product takes part, and nothing here looks at a clock.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

# Name, and what tells its file: an argument that is a descriptor, or a directory and a path.
CALLS: dict[int, tuple[str, str, int]] = {
    1: ("write", "fd", 0),
    18: ("pwrite64", "fd", 0),
    20: ("writev", "fd", 0),
    40: ("sendfile", "fd", 0),
    326: ("copy_file_range", "fd", 2),
    74: ("fsync", "fd", 0),
    75: ("fdatasync", "fd", 0),
    77: ("ftruncate", "fd", 0),
    285: ("fallocate", "fd", 0),
    91: ("fchmod", "fd", 0),
    2: ("open", "path", 0),
    257: ("openat", "at", 0),
    76: ("truncate", "path", 0),
    82: ("rename", "path", 0),
    264: ("renameat", "at", 0),
    316: ("renameat2", "at", 0),
    83: ("mkdir", "path", 0),
    258: ("mkdirat", "at", 0),
    84: ("rmdir", "path", 0),
    87: ("unlink", "path", 0),
    263: ("unlinkat", "at", 0),
    86: ("link", "path", 0),
    265: ("linkat", "at", 0),
    90: ("chmod", "path", 0),
    268: ("fchmodat", "at", 0),
    452: ("fchmodat2", "at", 0),
}
FLAGS = {2: 1, 257: 2}  # which argument of an opening call says what it is opened for
WRITES = frozenset({"write", "pwrite64"})
CHANGING = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_RDWR
AT_FDCWD, WALL = -100, 0x40000000
TRACEME, SYSCALL, GETREGS, SETREGS, SETOPTIONS, SYSCALL_INFO = 0, 24, 12, 13, 0x4200, 0x420E
# Mark stops of system calls; trace threads; end the child with this process.
OPTIONS = 0x1 | 0x8 | 0x100000
RAX, RDX, ORIG_RAX = 10, 12, 15  # in user_regs_struct
How = Literal["kill", "tear", "fail"]


@dataclass(frozen=True)
class Fault:
    """What happens at the call with number ``at`` (from 0).

    how: ``kill`` ends the child before the call, ``tear`` in the middle of it (a write of half the
    bytes), ``fail`` makes it fail with ``errno``, as if the disk had said so.
    """

    at: int
    how: How = "kill"
    errno: int = 0


@dataclass
class Ended:
    """calls: those the child made or was about to make, in order. status: of `os.waitpid`."""

    calls: list[str] = field(default_factory=list)
    status: int = 0

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)


def supported() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def run(work: Callable[[], None], folder: Path, fault: Fault | None = None) -> Ended:
    """Run ``work()`` in a fork, with ``fault`` at one of its calls below ``folder``."""
    child = _fork(work, traced=True)
    if not os.WIFSTOPPED(os.waitpid(child, WALL)[1]):
        raise RuntimeError("expected this system to let a process trace its child (ptrace)")
    _ptrace(SETOPTIONS, child, 0, OPTIONS)
    ended = Ended()
    below = str(folder.resolve()) + "/"
    inside: set[int] = set()  # threads between entry and exit of a call
    failing: set[int] = set()
    going = {child: 0}  # threads to set going, with the signal to pass on
    while True:
        for thread, number in going.items():
            _ptrace(SYSCALL, thread, 0, number, gone=True)
        thread, status = os.waitpid(-1, WALL)
        going = {thread: 0}
        if not os.WIFSTOPPED(status):
            going = {}
            if thread == child:
                ended.status = status
                return ended
            continue
        stop = os.WSTOPSIG(status)
        if stop != signal.SIGTRAP | 0x80:
            # Events of ptrace itself, and the first stop of a new thread, are not for the child.
            going[thread] = 0 if stop in (signal.SIGTRAP, signal.SIGSTOP) else stop
            continue
        if thread in inside:
            inside.discard(thread)
            if thread in failing:
                failing.discard(thread)
                assert fault is not None
                _set(thread, RAX, -fault.errno)
            continue
        inside.add(thread)
        try:
            call = _call(thread, child, below)
        except ProcessLookupError:  # another thread ends the process: this one's call is never made
            call = None
        if call is None:
            continue
        ended.calls.append(call)
        if fault is None or len(ended.calls) - 1 != fault.at:
            continue
        if fault.how == "fail":
            _set(thread, ORIG_RAX, -1)
            failing.add(thread)
            continue
        if fault.how == "tear":
            assert call.split()[0] in WRITES, call
            _set(thread, RDX, _registers(thread)[RDX] // 2)
            _ptrace(SYSCALL, thread, 0, 0)
            os.waitpid(thread, WALL)
        os.kill(child, signal.SIGKILL)


def plain(work: Callable[[], None]) -> int:
    """Run ``work()`` in a fork; returns its exit code, negative for a signal."""
    _, status = os.waitpid(_fork(work, traced=False), 0)
    return os.waitstatus_to_exitcode(status)


def _fork(work: Callable[[], None], traced: bool) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if traced:
            _ptrace(TRACEME, 0, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _call(thread: int, process: int, below: str) -> str | None:
    """`NAME FILE` of the call that ``thread`` is about to make, where it changes the folder."""
    info = ctypes.create_string_buffer(88)
    _ptrace(SYSCALL_INFO, thread, len(info), ctypes.addressof(info))
    number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
    if number not in CALLS:
        return None
    name, kind, at = CALLS[number]
    if number in FLAGS and not arguments[FLAGS[number]] & CHANGING:
        return None
    if kind == "fd":
        path = _of_descriptor(process, arguments[at])
    elif kind == "path":
        path = _absolute(process, AT_FDCWD, _text(process, arguments[at]))
    else:
        path = _absolute(process, arguments[at], _text(process, arguments[at + 1]))
    inside = f"{path}/".startswith(below)
    return f"{name} {path[len(below) :] or '.'}" if inside else None


def _absolute(process: int, directory: int, path: str) -> str:
    if os.path.isabs(path):
        return os.path.normpath(path)
    number = ctypes.c_int(directory & 0xFFFFFFFF).value
    start = (
        os.readlink(f"/proc/{process}/cwd")
        if number == AT_FDCWD
        else _of_descriptor(process, number)
    )
    return os.path.normpath(os.path.join(start, path))


def _of_descriptor(process: int, descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/{process}/fd/{descriptor & 0xFFFFFFFF}")
    except OSError:
        return ""


def _text(process: int, address: int) -> str:
    with open(f"/proc/{process}/mem", "rb", 0) as memory:
        memory.seek(address)
        read = memory.read(256)
        while b"\0" not in read:
            read += memory.read(256)
    return os.fsdecode(read.split(b"\0")[0])


def _registers(thread: int) -> list[int]:
    registers = (ctypes.c_ulonglong * 27)()
    _ptrace(GETREGS, thread, 0, ctypes.addressof(registers))
    return list(registers)


def _set(thread: int, register: int, value: int) -> None:
    values = _registers(thread)
    values[register] = value & 0xFFFFFFFFFFFFFFFF
    registers = (ctypes.c_ulonglong * 27)(*values)
    _ptrace(SETREGS, thread, 0, ctypes.addressof(registers))


_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(request: int, process: int, address: int, data: int, gone: bool = False) -> None:
    """gone: the thread may have ended meanwhile."""
    pointer = ctypes.c_void_p
    _libc.ptrace.restype = ctypes.c_long
    result = _libc.ptrace(ctypes.c_long(request), process, pointer(address), pointer(data))
    number = ctypes.get_errno()
    if result == -1 and not (gone and number == 3):  # ESRCH
        raise OSError(number, f"ptrace({request:#x}) failed: {os.strerror(number)}")
