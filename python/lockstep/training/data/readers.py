"""Text, JSON lines, JSON, and tables of text (CSV, TSV), streamed."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError

from .chunks import CHUNK, Broken, Place, Row, TextChunk, cut
from .opening import BLOCK, Stream, opened

ENDED = 1  # line of the place behind a text file: its only document has been read
Rows = Iterator[Row | Broken]


def read_text(path: Path, start: Place, size: int = CHUNK) -> Iterator[TextChunk]:
    """A UTF-8 file, one document; line ends untouched, a byte order mark dropped.

    Raises LS_TRAIN_TEXT with the byte where UTF-8 ends.
    """
    if start.line:
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    at, text, seen = start.at, "", start.at
    with opened(path) as file:
        file.skip(at)
        first = b""
        if at == 0 and (first := file.bytes.read(3)) == codecs.BOM_UTF8:
            first, at, seen = b"", 3, 3
        while True:
            block = first + file.bytes.read(BLOCK)
            first, seen = b"", seen + len(block)
            try:
                text += decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                where = seen - len(error.object) + error.start
                raise _no_utf8(path, error.object[error.start], where) from error
            while len(text) > size:
                end = cut(text, size)
                at += len(text[:end].encode())
                yield TextChunk(text[:end], False, Place(at), file.done)
                text = text[end:]
            if not block:
                yield TextChunk(text, True, Place(seen, ENDED), file.done)
                return


def read_jsonl(path: Path, start: Place) -> Rows:
    """A value a line, as JSON has it. Blank lines count nothing."""
    at, line = start.at, start.line
    with opened(path) as file:
        file.skip(at)
        while raw := file.bytes.readline():
            at, line = at + len(raw), line + 1
            if not raw.strip():
                continue
            place = Place(at, line)
            try:
                value = _json(raw if line > 1 else raw.removeprefix(codecs.BOM_UTF8))
            except Unreadable as reason:
                yield Broken(line, str(reason), place, file.done)
                continue
            yield Row(value, line, place, file.done)


def read_json(path: Path, start: Place) -> Rows:
    """A list of objects, or one object; a file of JSON lines that is called .json is read as such.

    It is in memory whole. Raises LS_TRAIN_DATA for what is none of these.
    """
    if _has_lines(path):
        yield from read_jsonl(path, start)
        return
    with opened(path) as file:
        raw = file.bytes.read()
        done = file.done
    try:
        found = _json(raw.removeprefix(codecs.BOM_UTF8))
    except Unreadable as reason:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected JSON in {path}, got what is {reason}",
            "Give a list of objects, or one object a line.",
            "data.train",
        ) from reason
    rows = found if isinstance(found, list) else [found]
    for index, value in enumerate(rows[start.at :], start.at + 1):
        yield Row(value, index, Place(index, index), done * index // len(rows))


def read_separated(path: Path, start: Place, separator: str) -> Rows:
    """Rows of a table of text by the names in its first line; a quoted value may span lines.

    Raises LS_TRAIN_DATA without a first line, LS_TRAIN_TEXT for what is not UTF-8.
    """
    csv.field_size_limit(1 << 31)
    with opened(path) as file:
        lines = io.TextIOWrapper(file.bytes, encoding="utf-8-sig", newline="")
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            names = next(reader, None)
            if not names or len(set(names)) < len(names):
                raise LockstepError(
                    "LS_TRAIN_DATA",
                    f"expected the names of the columns, each once, in the first line of {path}, "
                    f"got {names or 'none'}",
                    "Write them there; data.field says which column holds the text.",
                    "data.train",
                )
            yield from _separated(reader, names, start, file)
        except UnicodeDecodeError as error:
            raise _no_utf8(path, error.object[error.start], None) from error
        finally:
            lines.detach()


def _separated(reader: Any, names: list[str], start: Place, file: Stream) -> Rows:
    index = 0
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            index += 1
            if index > start.at:
                yield Broken(line, f"not readable: {error}", Place(index, line), file.done)
            continue
        if values is None:
            return
        if not values:
            continue
        index += 1
        if index <= start.at:
            continue
        place = Place(index, line)
        if len(values) != len(names):
            reason = f"expected {len(names)} values, as the first line has, got {len(values)}"
            yield Broken(line, reason, place, file.done)
        else:
            yield Row(dict(zip(names, values, strict=True)), line, place, file.done)


class Unreadable(Exception):
    """Why bytes are no JSON."""


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw.decode("utf-8").rstrip())
    except UnicodeDecodeError as error:
        raise Unreadable(f"not UTF-8 at byte {error.start + 1} of the line") from error
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"not readable: {error}") from error


def _has_lines(path: Path) -> bool:
    """Whether the first line of a .json file is an object of its own, with more behind it."""
    with opened(path) as file:
        first = file.bytes.readline(1 << 24).removeprefix(codecs.BOM_UTF8)
        if not re.match(rb"\s*\{", first) or not file.bytes.read(1 << 16).strip():
            return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _no_utf8(path: Path, byte: int, where: int | None) -> LockstepError:
    at = "" if where is None else f" at offset {where}"
    return LockstepError(
        "LS_TRAIN_TEXT",
        f"expected UTF-8 text, got byte 0x{byte:02x}{at} of {path}",
        "Convert it (iconv -f ... -t utf-8), or exclude it with a pattern '!file'.",
    )
