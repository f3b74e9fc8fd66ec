"""Documents in chunks: what readers give, so that no document need be in memory whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lockstep.chat.encode import Example
from lockstep.chat.preferences import Preference

# Characters handed to the tokenizer at once: its bookkeeping takes some 40 bytes a character, so a
# 100 MB document would otherwise need gigabytes.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where reading a file continues: a byte of a text or JSONL file, else a row; the line."""

    at: int = 0
    line: int = 0


@dataclass(frozen=True)
class TextChunk:
    """A part of a document; ``last``: its end. place: where reading continues after it, None where
    it cannot. done: bytes of the file read so far, for progress."""

    text: str
    last: bool
    place: Place | None
    done: int


@dataclass(frozen=True)
class Broken:
    """A row that cannot be used: its line (or row) from 1, and why."""

    line: int
    reason: str
    place: Place
    done: int


@dataclass(frozen=True)
class Row:
    """A row as its file gives it. value: an object, in any other case no row. line: from 1."""

    value: Any
    line: int
    place: Place
    done: int


@dataclass(frozen=True)
class Chat:
    """A row that holds a conversation, a prompt and its completion, or a prompt and two answers."""

    example: Example | Preference
    line: int
    place: Place
    done: int


Item = TextChunk | Broken | Chat


def cut(text: str, size: int, start: int = 0) -> int:
    """End of the chunk of ``text`` that begins at ``start``: after a line where it can be."""
    line = text.rfind("\n", start, start + size)
    return line + 1 if line > start else start + size


def chunks(text: str, place: Place, done: int, size: int = CHUNK) -> Iterator[TextChunk]:
    """A document that is in memory, in chunks of at most ``size`` characters."""
    start = 0
    while len(text) - start > size:
        end = cut(text, size, start)
        yield TextChunk(text[start:end], False, None, done)
        start = end
    yield TextChunk(text[start:], True, place, done)
