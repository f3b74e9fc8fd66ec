"""Renders chat templates outside this process, with limits.

Counterpart of src/template/template.ts.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError

from .environment import Span
from .messages import Conversation
from .source import TemplateSource

PACKAGES = Path(__file__).resolve().parents[2]
LONGEST = 1 << 20  # characters of a template itself: the longest in use have some 20,000
# Isolated: neither the environment nor the working folder decides what is imported.
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from lockstep.chat.worker import main; main(int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Limits:
    """Of one rendering: seconds, characters that it writes, MiB of its process."""

    seconds: float = 10.0
    characters: int = 1 << 25
    mebibytes: int = 512


@dataclass(frozen=True)
class Rendering:
    """A conversation's text. spans: characters of the assistant's turns that were asked for.
    unsound: why they cannot be found, None where they are."""

    text: str
    spans: list[Span]
    unsound: str | None = None


class Refused(Exception):
    """What a template says against a conversation: roles that do not alternate, and so on."""


class Renderer:
    """A checkpoint's template in ``workers`` processes. Use it as a context manager.

    Raises LS_TEMPLATE_LIMIT for a template that is too long itself.
    """

    def __init__(self, source: TemplateSource, limits: Limits | None = None, workers: int = 1):
        self.source, self.limits, self.workers = source, limits or Limits(), max(1, workers)
        if len(source.text) > LONGEST:
            raise self._over(
                f"a template of at most {LONGEST} characters", f"{len(source.text)} characters"
            )
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._all: set[_Process] = set()
        for _ in range(self.workers):
            self._idle.put(None)
        self._threads = ThreadPoolExecutor(self.workers) if self.workers > 1 else None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for process in list(self._all):
            process.end()
        self._all.clear()

    def check(self) -> None:
        """See that the template can be read.

        Raises LS_TEMPLATE_SYNTAX, LS_TEMPLATE_LIMIT, LS_TEMPLATE_START.
        """
        self._idle.put(self._taken())

    def render(
        self,
        conversation: Conversation,
        *,
        header: bool = False,
        turns: Sequence[int] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Rendering:
        """The text of a conversation. header: with the header of an answer at its end. turns: which
        of the assistant's messages to find in it (of a template with `{% generation %}`: all).

        Raises `Refused` with the template's own words; LS_TEMPLATE_LIMIT, LS_TEMPLATE_SYNTAX,
        LS_TEMPLATE_START.
        """
        request = {
            "messages": conversation.messages,
            "tools": conversation.tools,
            "options": dict(options or {}),
            "header": header,
            "turns": None if turns is None else list(turns),
        }
        process: _Process | None = self._taken()
        try:
            assert process is not None
            answer = process.ask(request)
            if answer is None:
                reason = process.end()
                self._all.discard(process)
                process = None
                raise self._ended(reason)
        finally:
            self._idle.put(process)
        if answer["kind"] == "text":
            spans = [(int(a), int(b)) for a, b in answer["spans"]]
            return Rendering(answer["text"], spans, answer["unsound"])
        if answer["kind"] == "long":
            most = f"at most {self.limits.characters} characters from the template"
            raise self._over(most, answer["length"])
        if answer["kind"] == "memory":
            raise self._ended(None)
        raise Refused(answer["reason"])

    def render_many(
        self,
        conversations: Sequence[Conversation],
        turns: Sequence[Sequence[int] | None],
        options: Mapping[str, Any] | None = None,
    ) -> list[Rendering | Refused]:
        """`render` of each, on all processes; a `Refused` where the template refuses one."""

        def one(work: tuple[Conversation, Sequence[int] | None]) -> Rendering | Refused:
            try:
                return self.render(work[0], turns=work[1], options=options)
            except Refused as refusal:
                return refusal

        work = list(zip(conversations, turns, strict=True))
        return list(map(one, work) if self._threads is None else self._threads.map(one, work))

    def _taken(self) -> _Process:
        process = self._idle.get()
        if process is not None:
            return process
        try:
            return self._started()
        except BaseException:
            # Without its place the next rendering would wait for ever.
            self._idle.put(None)
            raise

    def _started(self) -> _Process:
        try:
            process = _Process(self.limits, self.source)
        except OSError as error:
            raise LockstepError(
                "LS_TEMPLATE_START",
                f"expected to start the process of the chat template, got: {error}",
                "Let this user start another process.",
            ) from error
        answer = process.answer()
        if answer is not None and answer["kind"] == "ready":
            self._all.add(process)
            return process
        reason = process.end()
        if answer is None:
            raise self._ended(reason)
        raise LockstepError(
            "LS_TEMPLATE_SYNTAX",
            f"expected a chat template in {self.source.file}, got: {answer['reason']}",
            "Copy the chat template again from the original checkpoint.",
        )

    def _ended(self, code: int | None) -> LockstepError:
        if code == -signal.SIGALRM:
            return self._over(f"a result within {self.limits.seconds:g} s", "none")
        return self._over(f"at most {self.limits.mebibytes} MiB of memory for the template", "more")

    def _over(self, expected: str, got: Any) -> LockstepError:
        return LockstepError(
            "LS_TEMPLATE_LIMIT",
            f"expected {expected}, got {got} ({self.source.file})",
            "Give fewer or shorter messages; if no message works, the chat template is broken.",
        )


class _Process:
    def __init__(self, limits: Limits, source: TemplateSource):
        ours, theirs = Pipe()
        descriptor = theirs.fileno()
        self.connection: Connection[Any, Any] = ours
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(PACKAGES), str(descriptor)],
            # Nothing of ours, its secrets least of all.
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("LOCKSTEP_DEBUG") else subprocess.DEVNULL,
            pass_fds=(descriptor,),
        )
        theirs.close()
        start = {
            "source": source.text,
            "special": dict(source.special),
            "seconds": limits.seconds,
            "characters": limits.characters,
            "mebibytes": limits.mebibytes,
        }
        self._send(start)

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        self._send(request)
        return self.answer()

    def answer(self) -> dict[str, Any] | None:
        """None where the process has ended."""
        try:
            found: dict[str, Any] = json.loads(self.connection.recv_bytes())
            return found
        except (EOFError, ConnectionResetError):
            return None

    def end(self) -> int | None:
        """How it ended by itself; one that runs is killed."""
        self.connection.close()
        try:
            return self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def _send(self, value: dict[str, Any]) -> None:
        # Where it has ended, the answer that does not come says it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(json.dumps(value).encode())
