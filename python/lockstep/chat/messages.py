"""A conversation in OpenAI's shape, given to a chat template as the server gives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

ANSWERS = "assistant"
#: Lists and objects within each other that a message or a tool may hold; no schema comes near it.
DEEPEST = 200


class Unfit(Exception):
    """Why a row is no conversation that can be trained on."""


@dataclass(frozen=True)
class Conversation:
    """messages: as a template sees them. tools: JSON schemas, or None. untrained: indices of the
    assistant's messages that take no loss (OpenAI's `weight: 0`)."""

    messages: list[dict[str, Any]]
    tools: list[Any] | None = None
    untrained: frozenset[int] = frozenset()

    @property
    def turns(self) -> list[int]:
        """Indices of the assistant's messages."""
        return [at for at, one in enumerate(self.messages) if one["role"] == ANSWERS]

    def upto(self, count: int) -> Conversation:
        """The first ``count`` messages."""
        return replace(self, messages=self.messages[:count])


def conversation(messages: Any, tools: Any = None) -> Conversation:
    """A row's messages, checked. Raises `Unfit`.

    Null fields mean absent ones, text parts are joined, the arguments of a call are given to the
    template as what their JSON says. Only the template can refuse a role. Values that
    no template can take are refused here, wherever they are.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not len(messages):
        raise Unfit(f"expected a list of messages, got {_kind(messages)}")
    if tools is not None and not (isinstance(tools, list) and all(map(_is_object, tools))):
        raise Unfit("expected tools to be a list of objects")
    out = [_message(one, at) for at, one in enumerate(messages)]
    for at, one in enumerate(out):
        _check(one, f"message {at + 1}")
    _check(tools, "tools")
    untrained = {at for at, one in enumerate(out) if one.pop("weight", 1) == 0}
    return Conversation(out, tools or None, frozenset(untrained))


def check_turns(found: Conversation) -> None:
    """What a conversation to train on must have. Raises `Unfit`."""
    if not any(one["role"] == "user" for one in found.messages):
        raise Unfit("no message of a user")
    for at in found.turns:
        one = found.messages[at]
        if not (one["content"] or "").strip() and not _speaks(one):
            raise Unfit(f"message {at + 1}, of the assistant, is empty")


def _speaks(message: dict[str, Any]) -> bool:
    return any(value for name, value in message.items() if name not in ("role", "content", "name"))


def _message(value: Any, at: int) -> dict[str, Any]:
    where = f"message {at + 1}"
    if not isinstance(value, dict):
        raise Unfit(f"expected {where} to be an object, got {_kind(value)}")
    one = {n: field for n, field in value.items() if field is not None or n == "content"}
    if not isinstance(one.get("role"), str):
        raise Unfit(f"expected {where} to have a role, got {_kind(value.get('role'))}")
    one["content"] = _content(one.get("content"), where)
    calls = one.get("tool_calls")
    if calls == []:
        del one["tool_calls"]
    elif calls is not None:
        one["tool_calls"] = _calls(calls, where)
    for name in ("annotations",):
        if one.get(name) == []:
            del one[name]
    return one


def _content(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        for part in value:
            text = part.get("text") if isinstance(part, dict) else None
            if not isinstance(text, str) or part.get("type") != "text":
                raise Unfit(f"expected text alone in {where}, got a part {_kind(part)}")
        return "".join(part["text"] for part in value)
    raise Unfit(f"expected the content of {where} to be text, got {_kind(value)}")


def _calls(calls: Any, where: str) -> list[Any]:
    if not isinstance(calls, list):
        raise Unfit(f"expected tool_calls of {where} to be a list, got {_kind(calls)}")
    out = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Unfit(f"expected each of tool_calls of {where} to name a function")
        given = function.get("arguments", {})
        out.append({**call, "function": {**function, "arguments": _parsed(given, where)}})
    return out


def _parsed(given: Any, where: str) -> Any:
    """Templates write a call's arguments as JSON themselves; clients send them as text."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except RecursionError as error:
        raise Unfit(_deep(where)) from error
    except ValueError:
        return given


def _check(value: Any, where: str, depth: int = 0) -> None:
    """Names and values down to the last are text that UTF-8 can hold, and what JSON has."""
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, dict | list | tuple):
        if depth > DEEPEST:
            raise Unfit(_deep(where))
        for name in value if isinstance(value, dict) else ():
            _check(name, where)
        for one in value.values() if isinstance(value, dict) else value:
            _check(one, where, depth + 1)
    elif value is not None and not isinstance(value, int | float):
        raise Unfit(f"expected what JSON has in {where}, got {_kind(value)}")


def _deep(where: str) -> str:
    return f"lists and objects in {where} are nested too deeply"


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unfit(f"half a surrogate pair at character {error.start + 1} of {where}") from error


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return f"of type {value['type']!r}" if "type" in value else "an object"
    return type(value).__name__ if not isinstance(value, str) else f"text {value[:20]!r}"
