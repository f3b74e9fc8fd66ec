"""Files of a measurement: the documents, and a file of answers for each row."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.evaluation.write_once import write_once
from lockstep.needles.documents import Document, Needle

FILE = "documents.jsonl"


def write_documents(folder: Path, made: list[tuple[int, int, Document]]) -> None:
    """``[(length, index, document)]``, whole, or found there (``LS_EVAL_RESUME``)."""
    lines = [
        json.dumps({"length": length, "index": index, "ids": one.ids}
                   | {"needles": [_needle(needle) for needle in one.needles]})
        for length, index, one in made
    ]  # fmt: skip
    write_once(folder / FILE, "".join(f"{line}\n" for line in lines))


def read_documents(folder: Path) -> Iterator[tuple[int, int, Document]]:
    """What `write_documents` wrote."""
    for one in _lines(folder / FILE):
        needles = tuple(
            Needle(**needle | {name: range(*needle[name]) for name in ("span", "answer")})
            for needle in one["needles"]
        )
        yield one["length"], one["index"], Document(one["ids"], needles)


def answers(folder: Path, row: str) -> list[dict[str, Any]]:
    """Lines ``{length, index, answers}`` that the row has; a line that a crash cut off is taken out
    of the file."""
    path = folder / f"{row}.jsonl"
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
    try:
        return list(_lines(path))
    except ValueError as error:
        raise LockstepError(
            "LS_EVAL_ANSWERS",
            f"expected lines of JSON in {path}, got others",
            "Remove that file; the other rows are kept.",
        ) from error


def add_answers(
    folder: Path, row: str, length: int, index: int, found: list[dict[str, Any]]
) -> None:
    """Append one document's answers, a needle each, in order."""
    line = json.dumps({"length": length, "index": index, "answers": found}) + "\n"
    with (folder / f"{row}.jsonl").open("ab") as file:
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _needle(needle: Needle) -> dict[str, Any]:
    spans = {
        name: [one.start, one.stop] for name in ("span", "answer") if (one := getattr(needle, name))
    }
    return vars(needle) | spans


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)
