"""Text and JSONL files, streamed."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import LockstepError

from .pieces import PIECE, Broken, Piece, Place, cut, pieces

BLOCK = 1 << 20
ENDED = 1  # line of the place behind a text file: its only document has been read
Read = Iterator[Piece | Broken]


def read_text(path: Path, start: Place, size: int = PIECE) -> Read:
    """A UTF-8 file, one document; line ends untouched, a byte order mark dropped.

    Raises LS_TRAIN_TEXT with the byte where UTF-8 ends.
    """
    if start.line:
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    at, text, seen = start.at, "", start.at
    with path.open("rb") as file:
        if at == 0 and file.read(3) == codecs.BOM_UTF8:
            at = seen = 3
        file.seek(at)
        while True:
            block = file.read(BLOCK)
            seen += len(block)
            try:
                text += decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                where = seen - len(error.object) + error.start
                raise LockstepError(
                    "LS_TRAIN_TEXT",
                    f"expected UTF-8 text, got byte 0x{error.object[error.start]:02x} at offset "
                    f"{where} of {path}",
                    "Convert it (iconv -f ... -t utf-8), or take it out with a pattern '!file'.",
                ) from error
            while len(text) > size:
                end = cut(text, size)
                at += len(text[:end].encode())
                yield Piece(text[:end], False, Place(at), at)
                text = text[end:]
            if not block:
                yield Piece(text, True, Place(seen, ENDED), seen)
                return


def read_jsonl(path: Path, start: Place, field: str) -> Read:
    """One document a line: the string at ``field`` of a JSON object. Blank lines count nothing."""
    at, line = start.at, start.line
    with path.open("rb") as file:
        file.seek(at)
        while raw := file.readline():
            at, line = at + len(raw), line + 1
            if not raw.strip():
                continue
            place = Place(at, line)
            try:
                text = _text(raw if line > 1 else raw.removeprefix(codecs.BOM_UTF8), field)
            except _NoText as reason:
                yield Broken(line, str(reason), place, at)
                continue
            yield from pieces(text, place, at)


class _NoText(Exception):
    """Why a row holds no text."""


def _text(raw: bytes, field: str) -> str:
    try:
        row = json.loads(raw.decode("utf-8").rstrip())
    except UnicodeDecodeError as error:
        raise _NoText(f"not UTF-8 at byte {error.start + 1} of the line") from error
    except json.JSONDecodeError as error:
        raise _NoText(
            f"not JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise _NoText(f"not readable: {error}") from error
    if not isinstance(row, dict):
        raise _NoText(f"expected an object, got {type(row).__name__}")
    if field not in row:
        raise _NoText(f"no field {field!r}, but {', '.join(map(repr, list(row)[:5])) or 'none'}")
    text = row[field]
    if not isinstance(text, str):
        raise _NoText(f"expected text in {field!r}, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _NoText(f"half a surrogate pair at character {error.start + 1}") from error
    return text
