"""The first tokens of a text file, read no further than needed."""

from __future__ import annotations

from pathlib import Path

from ..errors import LockstepError
from .encoding import token_ids
from .file import load_tokenizer

MARGIN = 64  # tokens beyond the wanted ones: what follows may still change the last ones


def encode(folder: str | Path, text: str) -> list[int]:
    """Token ids by the checkpoint's tokenizer.json; no special token is added."""
    return token_ids(load_tokenizer(folder), text)


def first_tokens(
    folder: str | Path, file: str | Path, count: int, *, skip: int = 0, bos: int | None = None
) -> list[int]:
    """The first ``count`` ids of ``file`` behind its first ``skip`` characters, ``bos`` among them.

    Raises ``LS_TEXT_MISSING``, ``LS_TEXT_ENCODING`` (not UTF-8), ``LS_TEXT_SHORT``.
    """
    front = [] if bos is None else [bos]
    wanted = count - len(front)
    size = 8 * wanted + 1024
    while True:
        text, whole = read_part(Path(file), skip, size)
        ids = encode(folder, text)
        if len(ids) >= wanted + MARGIN or (whole and len(ids) >= wanted):
            return front + ids[:wanted]
        if whole:
            raise LockstepError(
                "LS_TEXT_SHORT",
                f"expected at least {count} tokens in {file}"
                + (f" after {skip} characters" if skip else "")
                + f", got {len(front) + len(ids)}",
                "Give a longer text, or ask for fewer tokens.",
            )
        size *= 2


def read_part(file: Path, skip: int, size: int) -> tuple[str, bool]:
    """``size`` characters from ``skip`` on, and whether the file ends there."""
    try:
        # A byte order mark is no part of the text, as the trainer reads it.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            while skip > 0 and (passed := len(stream.read(min(skip, 1 << 20)))):
                skip -= passed
            text = stream.read(size)
            return text, stream.read(1) == ""
    except OSError as error:
        raise LockstepError(
            "LS_TEXT_MISSING",
            f"expected a readable text file, got {error.strerror or error} for {file}",
            "Give the path of an existing UTF-8 text file.",
        ) from error
    except UnicodeDecodeError as error:
        raise LockstepError(
            "LS_TEXT_ENCODING",
            f"expected UTF-8 text, got byte 0x{error.object[error.start]:02x} in {file}",
            "Convert it to UTF-8.",
        ) from error
