"""vLLM's own OpenAI server as a child process, on a free port of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
START = 600.0  # seconds that a start on a busy machine may take


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running child; ``output`` is all that it printed."""

    def __init__(self, model: Path, *options: str, **env: str | None):
        self.port = free_port()
        # Appending: reading moves the offset that the child would write at.
        self._log = tempfile.TemporaryFile(mode="a+")  # noqa: SIM115
        variables: dict[str, str] = {**os.environ, "VLLM_PLUGINS": "lockstep"}
        for name, value in env.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
                *("--model", str(model), "--host", "127.0.0.1", "--port", str(self.port)),
                *("--dtype", "float32", "--max-model-len", "1024", "--enforce-eager"),
                *options,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )

    @property
    def output(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def wait(self) -> int:
        """Wait for the child's end; its exit status."""
        return self.process.wait(START)

    def ready(self) -> None:
        """Wait until it serves."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            assert self.process.poll() is None, self.output
            with contextlib.suppress(OSError):
                if self.call("/health")[0] == 200:
                    return
            time.sleep(0.5)
        raise AssertionError(f"not ready in {START} s:\n{self.output}")

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer (JSON where it is) of one request."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=START) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, text

    def stop(self) -> None:
        """End it and its children, which share its session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


@contextlib.contextmanager
def serving(model: Path, *options: str, **env: str | None) -> Iterator[Server]:
    server = Server(model, *options, **env)
    try:
        yield server
    finally:
        server.stop()
