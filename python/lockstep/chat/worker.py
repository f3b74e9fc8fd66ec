"""The process that renders a checkpoint's chat template, which may loop for ever or fill memory.

It has no part of the trainer's environment. The time of each rendering is bounded by an alarm that
ends the process, memory by the system's limit. Requests and answers are JSON over one socket.
"""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from .environment import Span, compiled, render, render_marked
from .spans import Unsound, by_prefixes, marked

PR_SET_PDEATHSIG = 1


class TooLong(Exception):
    """A rendering of more characters than allowed."""


class Worker:
    """One template. special: texts of `bos_token` and so on. seconds: for one rendering."""

    def __init__(self, source: str, special: dict[str, str], seconds: float, characters: int):
        self.template, self.marked = compiled(source), marked(source)
        self.special, self.seconds, self.characters = special, seconds, characters

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """``{messages, tools, options, header, turns}`` -> ``{text, spans, unsound}``.

        turns: indices of the messages that are to be found, None for the text alone.
        """
        messages, turns = request["messages"], request["turns"]
        if turns is not None and self.marked:
            text, spans = self._timed(
                render_marked, self.context(request, len(messages), request["header"])
            )
            return {"text": text, "spans": spans, "unsound": None}

        def upto(count: int, header: bool) -> str:
            text: str = self._timed(render, self.context(request, count, header))
            return text

        whole = upto(len(messages), request["header"])
        found: list[Span] = []
        unsound = None
        if turns is not None:
            try:
                found = by_prefixes(whole, upto, turns, len(messages))
            except Unsound as reason:
                unsound = str(reason)
        return {"text": whole, "spans": found, "unsound": unsound}

    def context(self, request: dict[str, Any], count: int, header: bool) -> dict[str, Any]:
        """What transformers gives a template (and src/template/context.ts)."""
        return {
            **self.special,
            **request["options"],
            "messages": request["messages"][:count],
            "tools": request["tools"],
            "documents": None,
            "add_generation_prompt": header,
        }

    def _timed(self, work: Any, context: dict[str, Any]) -> Any:
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            out = work(self.template, context)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        text = out if isinstance(out, str) else out[0]
        if len(text) > self.characters:
            raise TooLong(str(len(text)))
        return out


def main(descriptor: int) -> None:
    """Answer until the other end is closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the trainer's to answer
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it ends this process, whatever it is doing
    with Connection(descriptor) as connection:
        try:
            start = json.loads(connection.recv_bytes())
            limit = start.pop("mebibytes") << 20
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            worker = None
            answer: dict[str, Any] = {"kind": "ready"}
            try:
                worker = Worker(**start)
            except Exception as error:
                answer = {"kind": "refused", "reason": _reason(error)}
            connection.send_bytes(json.dumps(answer).encode())
            while worker is not None:
                request = json.loads(connection.recv_bytes())
                try:
                    answer = {"kind": "text", **worker.answer(request)}
                except TooLong as error:
                    answer = {"kind": "long", "length": int(str(error))}
                except MemoryError:
                    answer = {"kind": "memory"}
                except Exception as error:
                    answer = {"kind": "refused", "reason": _reason(error)}
                connection.send_bytes(json.dumps(answer).encode())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _reason(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    return (str(error) or type(error).__name__)[:1000] + (f" (line {line})" if line else "")
