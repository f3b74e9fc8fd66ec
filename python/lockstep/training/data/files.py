"""Which files a config's patterns name, and what kind each is."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any, Literal

from lockstep.errors import LockstepError

Kind = Literal["text", "jsonl", "json", "csv", "tsv", "parquet", "arrow"]
_KINDS: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_PACKED = {".gz": "gzip", ".zst": "Zstandard"}
COLUMNS = ("parquet", "arrow")  # kinds that hold columns with types
TABLES = ("csv", "tsv", *COLUMNS)  # kinds whose cells may hold lists as JSON


def kind_of(path: Path) -> Kind:
    """By the ending, .gz and .zst aside; a file with another ending is text, one document."""
    name = path.with_suffix("") if compression_of(path) else path
    return _KINDS.get(name.suffix.lower(), "text")


def compression_of(path: Path) -> str | None:
    """`gzip`, `Zstandard` or None, by the ending."""
    return _PACKED.get(path.suffix.lower())


def find(patterns: tuple[str, ...], root: Path) -> list[Path]:
    """Files of ``patterns`` (paths or globs under ``root``; ``!pattern`` takes out), sorted.

    A folder that `datasets.Dataset.save_to_disk` wrote stands for its Arrow files. Raises
    LS_TRAIN_DATA when a pattern names no file or nothing is left.
    """
    found: set[Path] = set()
    for pattern in (p for p in patterns if not p.startswith("!")):
        here = _named(pattern, root)
        if not here:
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected {pattern!r} to name a file or a saved Hugging Face dataset, got "
                + ("a plain folder" if (root / pattern).is_dir() else "none"),
                "Patterns are relative to the config file; for a folder's texts write "
                "'folder/**/*.txt'.",
                "training.data",
            )
        found |= here
    for pattern in (p[1:] for p in patterns if p.startswith("!")):
        found -= _named(pattern, root)
    for path in sorted(found):
        if (packed := compression_of(path)) and kind_of(path) in COLUMNS:
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected an uncompressed .{kind_of(path)} file (its columns are compressed "
                f"inside), got {path}",
                f"Unpack it: such files are compressed by column, and {packed} is not read.",
                "training.data",
            )
    if not found:
        raise LockstepError(
            "LS_TRAIN_DATA",
            "expected training.data to leave at least one file, got none after excluding "
            + ", ".join(p for p in patterns if p.startswith("!")),
            field="training.data",
        )
    return sorted(found)


def _named(pattern: str, root: Path) -> set[Path]:
    files: set[Path] = set()
    # A name like `a[1].txt` is a file's before it is a pattern.
    literal = root / pattern
    if literal.exists():
        names = [str(literal)]
    else:
        # The folder's own name is none; an absolute pattern stands for itself.
        names = glob.glob(str(Path(glob.escape(str(root)), pattern)), recursive=True)
    for path in map(Path, names):
        if path.is_file():
            files.add(path)
        elif path.is_dir():
            files |= set(_dataset(path))
    return files


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        found = error
    if isinstance(found, dict):
        return found
    raise LockstepError(
        "LS_TRAIN_DATA",
        f"expected {path} to hold a JSON object, as datasets writes it, got "
        + (str(found) if isinstance(found, ValueError) else type(found).__name__),
        "Save the dataset again with save_to_disk.",
        "training.data",
    )


def _dataset(folder: Path) -> list[Path]:
    """Arrow files of a saved Hugging Face dataset; none for another folder.

    The layout is that of huggingface/datasets (`Dataset.save_to_disk`, `DatasetDict.save_to_disk`):
    state.json lists the files, dataset_dict.json the splits.
    """
    splits, state = folder / "dataset_dict.json", folder / "state.json"
    if splits.is_file():
        names = _object(splits).get("splits", [])
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected one split of a dataset, got all of {folder} ({', '.join(names)})",
            f"Name a split: {folder.name}/{names[0] if names else 'train'}.",
            "training.data",
        )
    if not state.is_file():
        return []
    listed = _object(state).get("_data_files")
    if not isinstance(listed, list):
        return []
    files = [folder / entry["filename"] for entry in listed]
    for file in files:
        if not file.is_file():
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected {file}, which {state.name} of the dataset lists, got none",
                "Save the dataset again with save_to_disk.",
                "training.data",
            )
    return files
