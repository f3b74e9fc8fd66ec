"""Rows of preference training, in the shapes of TRL's dataset formats.

`prompt`, `chosen`, `rejected`: three texts, or three lists of messages. Without `prompt`, `chosen`
and `rejected` are whole conversations, and the prompt is what both begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.chat import Conversation, Unfit, conversation
from lockstep.chat.encode import Pair
from lockstep.chat.messages import check_turns
from lockstep.chat.preferences import Preference

from .values import kind, text, unpacked

ANSWERS = ("chosen", "rejected")


def preference(row: Mapping[str, Any], as_text: bool) -> Preference | None:
    """The two answers of a row, None where all of it is null. Raises `Unfit`.

    as_text: the row is of a table, which may hold messages as JSON; elsewhere text is text.
    """
    given: list[Any] = [row.get(name) for name in ("prompt", *ANSWERS)]
    prompt, chosen, rejected = map(_listed, given) if as_text else given
    if chosen is None and rejected is None:
        return None
    if chosen == rejected:
        raise Unfit("'chosen' and 'rejected' are the same")
    if not isinstance(chosen, list) and not isinstance(rejected, list):
        return _texts(prompt, chosen, rejected)
    for name, value in zip(ANSWERS, (chosen, rejected), strict=True):
        if not isinstance(value, list):
            raise Unfit(f"expected messages in {name!r} as in the other answer, got {kind(value)}")
    if isinstance(prompt, list):
        begun = prompt
    else:
        count = _common(chosen, rejected)
        begun, chosen, rejected = chosen[:count], chosen[count:], rejected[count:]
        _check_prompt(prompt, begun)
    tools = unpacked(row.get("tools"))
    first, second = (
        _answered(begun, value, tools, name)
        for name, value in zip(ANSWERS, (chosen, rejected), strict=True)
    )
    return Preference(first, second)


def _texts(prompt: Any, chosen: Any, rejected: Any) -> Preference:
    if prompt is None:
        raise Unfit("'chosen' and 'rejected' are text, and there is no 'prompt' before them")
    halves = []
    for name, value in zip(ANSWERS, (chosen, rejected), strict=True):
        answer = text(value, name)
        if not answer.strip():
            raise Unfit(f"the answer in {name!r} is empty")
        halves.append(Pair(text(prompt, "prompt"), answer))
    return Preference(*halves)


def _answered(prompt: list[Any], answer: list[Any], tools: Any, name: str) -> Conversation:
    """A conversation of which the answer alone counts."""
    if not answer:
        raise Unfit(f"the answer in {name!r} is empty")
    try:
        found = conversation(prompt + answer, tools)
        check_turns(found)
    except Unfit as reason:
        raise Unfit(f"in {name!r}: {reason}") from reason
    given = frozenset(turn for turn in found.turns if turn < len(prompt))
    if not set(found.turns) - found.untrained - given:
        raise Unfit(f"no answer of the assistant in {name!r}")
    return Conversation(found.messages, found.tools, found.untrained | given)


def _check_prompt(prompt: Any, begun: list[Any]) -> None:
    """Some sets repeat the question as text beside whole conversations."""
    if prompt is None:
        return
    said = [one.get("content") for one in begun if isinstance(one, dict)]
    if text(prompt, "prompt") not in said:
        raise Unfit("'prompt' is text that neither conversation begins with")


def _common(chosen: list[Any], rejected: list[Any]) -> int:
    same = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        same += 1
    return same


def _listed(value: Any) -> Any:
    """Messages that are written as JSON, as a list; an answer may be JSON itself."""
    found = unpacked(value)
    return found if isinstance(found, list) and found and all(map(_is_message, found)) else value


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str)
