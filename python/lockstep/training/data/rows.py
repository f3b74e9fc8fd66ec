"""What a row means: a text, a conversation, a prompt and its completion, or two answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lockstep.chat import Conversation, Unfit, conversation
from lockstep.chat.encode import Pair
from lockstep.chat.messages import check_turns
from lockstep.chat.preferences import Preference
from lockstep.errors import LockstepError

from .chunks import Broken, Chat, Item, Place, Row, chunks
from .files import COLUMNS, TABLES, Kind, kind_of
from .preferences import ANSWERS, preference
from .readers import Rows, read_json, read_jsonl, read_separated, read_text
from .tables import columns_of, read_table
from .values import kind, text, unpacked

Format = Literal["text", "messages", "prompt-completion", "preference"]
PAIR = ("prompt", "completion")
NAMES: Mapping[str, str] = {"text": "text", "messages": "messages"}


@dataclass(frozen=True)
class Shape:
    """How a file's rows are read. field: where text or messages stand; a pair has its own names."""

    kind: Kind
    format: Format
    field: str

    @property
    def names(self) -> tuple[str, ...]:
        if self.format == "preference":
            return ANSWERS
        return PAIR if self.format == "prompt-completion" else (self.field,)

    def identity(self) -> list[str]:
        """What of it changes the documents."""
        if self.kind == "text":
            return [self.kind]
        return [self.kind, self.format, *self.names]


def shape_of(path: Path, format: str, field: str | None) -> Shape:
    """How to read a file, found by its columns or its first row where ``format`` is ``auto``.

    Raises LS_TRAIN_FORMAT where rows could be read in two ways, or a text file in none but one.
    """
    kind = kind_of(path)
    if kind == "text":
        if format not in ("auto", "text"):
            raise LockstepError(
                "LS_TRAIN_FORMAT",
                f"expected rows of {format}, got {path}, which is read as one text",
                "Name JSON lines .jsonl and tables .csv, .tsv, .parquet or .arrow.",
                "data.format",
            )
        return Shape(kind, "text", field or NAMES["text"])
    if format == "auto":
        format = _found(path, kind, field)
    shape: Any = format
    return Shape(kind, shape, field or NAMES.get(format, ""))


def read(path: Path, shape: Shape, start: Place) -> Iterator[Item]:
    """The documents of a file, from ``start`` on. Raises what the readers raise."""
    if shape.kind == "text":
        yield from read_text(path, start)
        return
    names = shape.names
    if shape.kind in COLUMNS and shape.format != "text":
        more = {"tools", "prompt"} if shape.format == "preference" else {"tools"}
        names = (*names, *(more & set(columns_of(path, shape.kind))))
    for row in _rows(path, shape.kind, start, names, shape.format == "text"):
        if isinstance(row, Broken):
            yield row
            continue
        try:
            value = _document(row.value, shape)
        except Unfit as reason:
            yield Broken(row.line, str(reason), row.place, row.done)
            continue
        if isinstance(value, str):
            yield from chunks(value, row.place, row.done)
        else:
            yield Chat(value, row.line, row.place, row.done)


def _rows(path: Path, kind: Kind, start: Place, names: tuple[str, ...], text: bool) -> Rows:
    if kind == "jsonl":
        return read_jsonl(path, start)
    if kind == "json":
        return read_json(path, start)
    if kind in COLUMNS:
        return read_table(path, kind, start, names, text)
    return read_separated(path, start, "," if kind == "csv" else "\t")


def _found(path: Path, kind: Kind, field: str | None) -> Format:
    """The format that the names of a file's columns, or of its first whole row, tell."""
    if kind in COLUMNS:
        row: dict[str, Any] = dict.fromkeys(columns_of(path, kind))
    else:
        rows = _rows(path, kind, Place(), (), False)
        found = (one.value for one in rows if isinstance(one, Row))
        row = next((value for value in found if isinstance(value, dict)), {})
    if field is not None:
        # A column named by the config holds text, or messages.
        return "messages" if _is_messages(path, kind, field, row) else "text"
    candidates: list[Format] = []
    if NAMES["messages"] in row:
        candidates.append("messages")
    if all(name in row for name in PAIR):
        candidates.append("prompt-completion")
    if NAMES["text"] in row:
        candidates.append("text")
    if not candidates and all(name in row for name in ANSWERS):
        candidates.append("preference")
    if len(candidates) > 1:
        raise LockstepError(
            "LS_TRAIN_FORMAT",
            f"expected rows of one format in {path}, got fields of {' and of '.join(candidates)}",
            "Set data.format to the right one.",
            "data.format",
        )
    return candidates[0] if candidates else "text"


def _is_messages(path: Path, kind: Kind, field: str, row: dict[str, Any]) -> bool:
    if kind not in COLUMNS:
        return isinstance(row.get(field), list)
    if field not in row:
        return False
    rows = read_table(path, kind, Place(), (field,), False)
    first = next((one for one in rows if isinstance(one, Row)), None)
    return first is not None and isinstance(first.value[field], list)


def _document(row: Any, shape: Shape) -> str | Conversation | Pair | Preference:
    """Raises `Unfit`."""
    if not isinstance(row, dict):
        raise Unfit(f"expected an object, got {kind(row)}")
    for name in shape.names:
        if name not in row:
            shown = ", ".join(map(repr, list(row)[:5])) or "none"
            raise Unfit(f"no field {name!r}, but {shown}")
    if shape.format == "text":
        return text(row[shape.field], shape.field)
    if shape.format == "preference":
        return preference(row, shape.kind in TABLES) or ""
    tools = unpacked(row.get("tools"))
    if shape.format == "messages":
        messages = row[shape.field]
        if messages is None:
            return ""
        found = conversation(unpacked(messages), tools)
    else:
        prompt, completion = (row[name] for name in PAIR)
        if prompt is None and completion is None:
            return ""
        if not isinstance(prompt, list):
            pair = Pair(text(prompt, "prompt"), text(completion, "completion"))
            if not pair.completion:
                raise Unfit("the completion is empty")
            return pair
        if not isinstance(completion, list):
            raise Unfit(f"expected messages in 'completion' as in 'prompt', got {kind(completion)}")
        found = conversation(prompt + completion, tools)
        given = frozenset(turn for turn in found.turns if turn < len(prompt))
        found = Conversation(found.messages, found.tools, found.untrained | given)
    check_turns(found)
    return found
