"""What renders chat templates for serving: Jinja2 itself, in Pyodide, inside a process of Node's
(src/template/template-process.ts). Training renders by the same `environment`.

It imports Jinja2 and the standard library alone. Requests and answers are JSON texts, so that
numbers, the order of fields and None reach a template as they would from Python.
"""

from __future__ import annotations

import json
import traceback
from typing import Any

import jinja2

from .environment import compiled, render

FILE = "<template>"  # Jinja2's own name of a template without a file


class Rendering:
    """One template. longest: most UTF-16 units that it may write."""

    def __init__(self, longest: int):
        self.longest = longest
        self.template: jinja2.Template | None = None

    def load(self, source: str) -> str:
        """Read a template: ``ready``, ``refused`` or ``memory``."""
        return _answered(lambda: self._load(source))

    def render(self, context: str, body: str | None = None) -> str:
        """The text for a JSON ``context``: ``text``, ``long``, or why there is none.

        body: the request as it came, where its tools and options are to be read exactly.
        """
        return _answered(lambda: self._render(context, body))

    def _load(self, source: str) -> dict[str, Any]:
        self.template = compiled(source)
        return {"kind": "ready"}

    def _render(self, context: str, body: str | None) -> dict[str, Any]:
        assert self.template is not None
        given = json.loads(context)
        if body is not None:
            given.update(_exact(body, given))
        _read_arguments(given.get("messages"))
        text = render(self.template, given)
        length = len(text.encode("utf-16-le", "surrogatepass")) // 2
        if length > self.longest:
            return {"kind": "long", "length": length}
        return {"kind": "text", "text": text}


def _exact(body: str, given: dict[str, Any]) -> dict[str, Any]:
    """Of a request's body as it came: JavaScript reads 1.0 as 1, rounds long numbers and moves
    keys that are numbers to the front."""
    asked = json.loads(body)
    own = dict(asked.get("chat_template_kwargs") or {})
    if given.get("tools") is not None:
        own["tools"] = [_tool(one) for one in asked["tools"]]
    return {name: value for name, value in own.items() if name in given}


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    """As chat has it: ``/v1/responses`` writes a function's fields beside ``type``."""
    if given.get("type") != "function" or "function" in given:
        return given
    own = {name: value for name, value in given.items() if name != "type"}
    return {"type": "function", "function": own}


def _read_arguments(messages: Any) -> None:
    """Templates write a call's arguments as JSON themselves; clients send them as text."""
    for message in messages if isinstance(messages, list) else ():
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            if isinstance(function, dict) and isinstance(function.get("arguments"), str):
                try:
                    function["arguments"] = json.loads(function["arguments"])
                except ValueError:
                    continue


def _answered(work: Any) -> str:
    try:
        answer: dict[str, Any] = work()
    except MemoryError:
        answer = {"kind": "memory"}
    except Exception as error:
        answer = {"kind": "refused", "reason": _reason(error)[:1000], "line": _line(error)}
    return json.dumps(answer)


def _reason(error: Exception) -> str:
    """A template's own words, or what went wrong in it."""
    if type(error) is jinja2.TemplateError:
        return str(error)
    words = str(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _line(error: Exception) -> int | None:
    """The line of the template, counted from 1; None for the template's own refusal."""
    if type(error) is jinja2.TemplateError:
        return None
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == FILE
    ]
    return lines[-1] if lines else None
