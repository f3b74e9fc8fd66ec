"""Python with PyTorch, transformers and Lockstep imported: one fork for each process of a test.

``server.py FOLDER`` writes the interpreter that tests start, a copy of ``interpreter.py``, to
``FOLDER/python``, prints ``ready``, and serves it until stdin ends. To import PyTorch and
transformers costs 3 s of processor time, and the tests start hundreds of processes.

A request is refused where imported modules would make a difference: another value of a variable
that a library reads when imported, or a module that hides an imported one. The caller then becomes
the real interpreter.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import sys
import weakref
from pathlib import Path
from typing import Any

import fork

LIBRARIES = (
    "torch",
    "torch._dynamo",
    "torch.distributed.tensor",
    "safetensors.torch",
    "tokenizers",
    "transformers.modeling_utils",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.tokenization_utils_fast",
    "jinja2.sandbox",
    # Every process that reads a contract needs these: 0.07 s.
    "jsonschema",
    "referencing.jsonschema",
    "rfc8785",
    "wasmtime",
    "numpy.ma",
    "numpy.ctypeslib",
)
# Most of Lockstep, for forks that would import the same files. No variable is read at its import.
OWN = ("lockstep.training.loop", "lockstep.loader", "lockstep.contract.planner")
# Variables that are read when a library is imported, by their first letters, and exceptions.
READ_AT_IMPORT = (
    *(
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "NUMPY_",
        "TORCH",
        "PYTORCH_",
        "ATEN_",
        "CUDA_",
    ),
    *("TRANSFORMERS_", "HF_", "TOKENIZERS_", "LD_", "PYTHON", "LC_", "LANG"),
)
SET_IN_FORK = (
    *("OMP_NUM_THREADS", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
    "PYTHON_BIN",  # Lockstep's own
    # Read when the libraries are called; lm-evaluation-harness and torchrun set them.
    *("TOKENIZERS_PARALLELISM", "TORCHELASTIC_", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
    "PYTORCH_CUDA_ALLOC_CONF",  # without CUDA it says nothing
)
# The server's own descriptors lie above those that a process can be given.
HIGH = 300

Request = dict[str, Any]


def read_at_import(environment: dict[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        # PYTHON alone is what bench/gpu/run.sh is told.
        if name.startswith(READ_AT_IMPORT) and not name.startswith(SET_IN_FORK) and name != "PYTHON"
    }


class Server:
    """One connection for each process: from its request to its end."""

    def __init__(self, address: str, before: dict[str, str]):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(address)
        listener.listen(64)
        self.listener = _lift(listener)
        self.own = read_at_import(dict(os.environ))
        self.added = {name: os.environ[name] for name in os.environ.keys() - before.keys()}
        self.path = sys.path[1:]
        self.poll = select.poll()
        self.poll.register(self.listener, select.POLLIN)
        self.poll.register(0, select.POLLIN | select.POLLHUP)
        self.connections: dict[int, tuple[socket.socket, int]] = {}
        self.processes: dict[int, int] = {}

    def run(self) -> Request | None:
        """None at the end of stdin; in a fork, the request that it is to carry out."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == 0:
                    if os.read(0, 1) == b"":
                        return None
                elif descriptor == self.listener.fileno():
                    request = self.accept()
                    if request is not None:
                        return request
                elif descriptor in self.processes:
                    self.ended(descriptor)
                elif descriptor in self.connections:
                    # A caller says nothing after its request: it was killed.
                    os.kill(self.connections[descriptor][1], signal.SIGKILL)
                    self.poll.unregister(descriptor)

    def accept(self) -> Request | None:
        accepted, _ = self.listener.accept()
        connection = _lift(accepted)
        try:
            request, files = _receive(connection)
        except EOFError:
            connection.close()
            return None
        if not self.fits(request):
            _send(connection, ("cold", 0))
            connection.close()
            for number in files:
                os.close(number)
            return None
        pid = os.fork()
        if pid == 0:
            self.release(connection)
            numbers = [_lift_number(one) for one in files]
            fork.adopt(dict(zip(request["files"], numbers, strict=True)))
            return request
        for number in files:
            os.close(number)
        process = _lift_number(os.pidfd_open(pid))
        self.connections[connection.fileno()] = (connection, pid)
        self.processes[process] = connection.fileno()
        self.poll.register(process, select.POLLIN)
        self.poll.register(connection, select.POLLIN)
        _send(connection, ("pid", pid))
        return None

    def ended(self, process: int) -> None:
        descriptor = self.processes.pop(process)
        self.poll.unregister(process)
        os.close(process)
        connection, pid = self.connections.pop(descriptor)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            how = ("signal", os.WTERMSIG(status))
        else:
            how = ("exit", os.WEXITSTATUS(status))
        with contextlib.suppress(KeyError):  # it was killed, and is not looked at any more
            self.poll.unregister(descriptor)
        _send(connection, how)
        connection.close()

    def fits(self, request: Request) -> bool:
        environment = request["environment"]
        if not read_at_import(environment).items() <= self.own.items():
            return False
        paths = environment.get("PYTHONPATH", "").split(os.pathsep)
        if request["kind"] == "script":
            paths = [str(Path(request["cwd"], request["what"]).parent), *paths]
        else:
            paths = [request["cwd"], *paths]
        for folder in paths:
            if folder == "":
                continue
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                stem = name.partition(".")[0]
                # Another Lockstep is no matter: the fork forgets this one (`fork.py`).
                if stem == "lockstep":
                    continue
                if stem in sys.modules and (name == stem or name.endswith(".py")):
                    return False
        return True

    def release(self, connection: socket.socket) -> None:
        """In a fork: close what is the server's."""
        self.listener.close()
        connection.close()
        for other, _ in self.connections.values():
            other.close()
        for process in self.processes:
            os.close(process)


def _lift(one: socket.socket) -> socket.socket:
    return socket.socket(one.family, one.type, fileno=_lift_number(one.detach()))


def _lift_number(number: int) -> int:
    high = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(number)
    return high


def _receive(connection: socket.socket) -> tuple[Request, list[int]]:
    files = array.array("i")
    head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(256 * files.itemsize))
    for _, _, data in ancillary:
        files.frombytes(data[: len(data) - len(data) % files.itemsize])
    text = b""
    size = int.from_bytes(head, "little")
    while len(text) < size:
        part = connection.recv(size - len(text))
        if part == b"":
            raise EOFError
        text += part
    if head == b"":
        raise EOFError
    return marshal.loads(text), list(files)


def _send(connection: socket.socket, answer: tuple[str, int]) -> None:
    text = marshal.dumps(answer)
    with contextlib.suppress(OSError):  # the caller was killed
        connection.sendall(len(text).to_bytes(8, "little") + text)


def write_interpreter(to: Path, address: str) -> None:
    source = Path(__file__).with_name("interpreter.py").read_text("utf8")
    filled = source.replace("@REAL@", sys.executable).replace("@ADDRESS@", address)
    to.write_text(f"#!{sys.executable} -IS\n{filled}", "utf8")
    to.chmod(0o755)


def start(folder: str) -> None:
    gc.disable()
    before = dict(os.environ)
    interpreter, address = Path(folder, "python"), str(Path(folder, "socket"))
    write_interpreter(interpreter, address)
    # OpenBLAS stops its threads before a fork; no other thread may have begun.
    importlib.import_module("numpy")
    threads = len(os.listdir("/proc/self/task"))
    with importlib.import_module("lockstep.deferred").deferred():
        for name in LIBRARIES + OWN:
            importlib.import_module(name)
    # transformers makes it, of hundreds of patterns, when it loads a first model.
    importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("")
    if len(os.listdir("/proc/self/task")) != threads:
        raise SystemExit("expected no thread of a library before the first fork, got one")
    # Forks leave out what these libraries do at a process's end, to undo and to log: 0.05 s.
    for one in list(weakref.finalize._registry):
        one.atexit = False
    atexit.unregister(sys.modules["torch._dynamo.utils"].dump_compile_times)
    gc.freeze()
    server = Server(address, before)
    # A terminal's Ctrl-C is for those who have forks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("ready", flush=True)
    request = server.run()
    if request is not None:
        gc.enable()
        fork.become(request, server.added, server.path, str(interpreter))
        os._exit(fork.run(request))


if __name__ == "__main__":
    start(*sys.argv[1:])
