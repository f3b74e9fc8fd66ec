"""Checksums of a checkpoint's files, so that a damaged one is never mistaken for a good one.

`training/SHA256SUMS` has the lines of coreutils' sha256sum: `sha256sum -c training/SHA256SUMS` in
the checkpoint's directory says the same as `damaged` does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

SUMS = "training/SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write(directory: Path, known: Mapping[str, str] = MappingProxyType({})) -> None:
    """Record the SHA-256 of every file below ``directory``, sorted by path.

    known: sums by path that need not be computed again.
    """
    names = sorted(p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file())
    sums = {n: known.get(n) or sha256(directory / n) for n in names if n != SUMS}
    lines = [f"{digits}  {name}\n" for name, digits in sums.items()]
    (directory / SUMS).write_text("".join(lines), encoding="utf-8")


def read(directory: Path) -> dict[str, str]:
    """SHA-256 by path, as recorded. Raises ValueError for a list that is absent or damaged."""
    try:
        lines = (directory / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"{SUMS} cannot be read") from error
    found = [_LINE.fullmatch(line) for line in lines]
    if not found or None in found:
        raise ValueError(f"{SUMS} is not a list of checksums")
    return {match.group(2): match.group(1) for match in found if match is not None}


def damaged(directory: Path, ignored: Collection[str] = ()) -> list[str]:
    """What is wrong with the files of ``directory``, one phrase each; empty where all are good.

    ignored: paths that nothing depends on, which a user may therefore have changed. Files that the
    list does not name are no concern of it.
    """
    try:
        expected = read(directory)
    except ValueError as error:
        return [str(error)]
    wrong = []
    for name in sorted(expected.keys() - set(ignored)):
        try:
            actual = sha256(directory / name)
        except FileNotFoundError:
            wrong.append(f"{name} is missing")
        except OSError as error:
            wrong.append(f"{name} cannot be read ({error.strerror})")
        else:
            if actual != expected[name]:
                wrong.append(f"{name} differs from its checksum")
    return wrong


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
