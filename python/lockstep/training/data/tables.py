"""Parquet and Arrow files (Hugging Face datasets on disk), streamed; one document a row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.install import install

from .pieces import Broken, Piece, Place, pieces

BATCH_BYTES = 8 << 20  # of a table's column in memory at once, where single rows are not larger


def read_table(path: Path, kind: str, start: Place, field: str) -> Iterator[Piece | Broken]:
    """Rows of column ``field`` from row ``start.at`` on; null reads as an empty document.

    Raises LS_TRAIN_DATA for a file that is damaged or has no such column of text.
    """
    try:
        import pyarrow as arrow
    except ImportError as error:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected pyarrow to read {path}, got none installed",
            install("train"),
        ) from error
    rows = _parquet if kind == "parquet" else _arrow
    try:
        for row, value, done in rows(path, start.at, field):
            try:
                text = value.as_py() or ""
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 at byte {error.start + 1} of the row"
                yield Broken(row + 1, reason, Place(row + 1), done)
                continue
            yield from pieces(text, Place(row + 1), done)
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the system, not of the format
        raise LockstepError(
            "LS_TRAIN_DATA", f"expected a whole {kind.capitalize()} file, got {path}: {error}"
        ) from error


Rows = Iterator[tuple[int, Any, int]]  # row, pyarrow's scalar, bytes read


def _parquet(path: Path, first: int, field: str) -> Rows:
    import pyarrow.parquet as parquet

    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        _check(file.schema_arrow, field, path)
        meta, row = file.metadata, 0
        for group in range(meta.num_row_groups):
            count = meta.row_group(group).num_rows
            if row + count <= first:
                row += count
                continue
            width = meta.row_group(group).total_byte_size // max(1, count)
            batch = max(1, min(4096, BATCH_BYTES // max(1, width)))
            for part in file.iter_batches(batch, row_groups=[group], columns=[field]):
                for value in part.column(0):
                    if row >= first:
                        yield row, value, size * (row + 1) // meta.num_rows
                    row += 1


def _arrow(path: Path, first: int, field: str) -> Rows:
    import pyarrow as arrow

    with arrow.memory_map(str(path)) as source:
        row = 0
        for part in _batches(source):
            _check(part.schema, field, path)
            if row + part.num_rows <= first:
                row += part.num_rows
                continue
            for value in part.column(part.schema.get_field_index(field)):
                if row >= first:
                    yield row, value, source.tell()
                row += 1


def _batches(source: Any) -> Iterator[Any]:
    """Record batches of an IPC stream (what `datasets` writes) or of an IPC file."""
    from pyarrow import ipc

    if source.read(6) == b"ARROW1":
        reader = ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
        return
    source.seek(0)
    yield from ipc.open_stream(source)


def _check(schema: Any, field: str, path: Path) -> None:
    import pyarrow.types as types

    index = schema.get_field_index(field)
    if index < 0:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected a column {field!r} in {path}, got {', '.join(schema.names)}",
            "Name the column with data.field.",
            "data.field",
        )
    kind = schema.field(index).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected text in column {field!r} of {path}, got {kind}",
            "Name a column of strings with data.field.",
            "data.field",
        )
