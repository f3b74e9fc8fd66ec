"""Parquet and Arrow files (Hugging Face datasets on disk), streamed by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.install import install

from .chunks import Broken, Place, Row

BATCH_BYTES = 8 << 20  # of a table's columns in memory at once, where single rows are not larger


def need_arrow(path: Path) -> Any:
    """The pyarrow module. Raises LS_TRAIN_DATA without it."""
    try:
        import pyarrow
    except ImportError as error:
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected pyarrow to read {path}, got none installed",
            install("train"),
        ) from error
    return pyarrow


def columns_of(path: Path, kind: str) -> list[str]:
    """Names of a table's columns. Raises LS_TRAIN_DATA for a file that is damaged."""
    arrow = need_arrow(path)
    with _whole(path, kind):
        if kind == "parquet":
            import pyarrow.parquet as parquet

            with parquet.ParquetFile(path) as file:
                return list(file.schema_arrow.names)
        with arrow.memory_map(str(path)) as source:
            first = next(_batches(source), None)
            return [] if first is None else list(first.schema.names)


def read_table(
    path: Path, kind: str, start: Place, names: Sequence[str], text: bool
) -> Iterator[Row | Broken]:
    """Rows of the columns ``names`` from row ``start.at`` on.

    text: they are to be columns of text. A column of structs has every field that any row has, null
    where a row has none: those are left out. Raises LS_TRAIN_DATA for a file that is damaged or has
    no such columns.
    """
    need_arrow(path)
    rows = _parquet if kind == "parquet" else _arrow
    with _whole(path, kind):
        for row, values, done in rows(path, start.at, names, text):
            place = Place(row + 1)
            try:
                value = {
                    name: _present(one.as_py()) for name, one in zip(names, values, strict=True)
                }
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 at byte {error.start + 1} of the row"
                yield Broken(row + 1, reason, place, done)
                continue
            yield Row(value, row + 1, place, done)


def _present(value: Any) -> Any:
    """A value without the null fields of its structs."""
    if isinstance(value, dict):
        return {name: _present(one) for name, one in value.items() if one is not None}
    return [_present(one) for one in value] if isinstance(value, list) else value


class _whole:
    """Turns what pyarrow says of a damaged file into LS_TRAIN_DATA."""

    def __init__(self, path: Path, kind: str):
        self.path, self.kind = path, kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        import pyarrow as arrow

        if not isinstance(error, arrow.ArrowException | OSError):
            return
        if isinstance(error, OSError) and error.errno is not None:
            return  # of the system, not of the format
        raise LockstepError(
            "LS_TRAIN_DATA",
            f"expected a whole {self.kind.capitalize()} file, got {self.path}: {error}",
        ) from error


Values = Iterator[tuple[int, Sequence[Any], int]]  # row, pyarrow's scalars, bytes read


def _parquet(path: Path, first: int, names: Sequence[str], text: bool) -> Values:
    import pyarrow.parquet as parquet

    size = path.stat().st_size
    with parquet.ParquetFile(path) as file:
        _check(file.schema_arrow, names, path, text)
        meta, row = file.metadata, 0
        for group in range(meta.num_row_groups):
            count = meta.row_group(group).num_rows
            if row + count <= first:
                row += count
                continue
            width = meta.row_group(group).total_byte_size // max(1, count)
            batch = max(1, min(4096, BATCH_BYTES // max(1, width)))
            for part in file.iter_batches(batch, row_groups=[group], columns=list(names)):
                columns = [part.column(part.schema.get_field_index(name)) for name in names]
                for values in zip(*columns, strict=True):
                    if row >= first:
                        yield row, values, size * (row + 1) // meta.num_rows
                    row += 1


def _arrow(path: Path, first: int, names: Sequence[str], text: bool) -> Values:
    import pyarrow as arrow

    with arrow.memory_map(str(path)) as source:
        row = 0
        for part in _batches(source):
            _check(part.schema, names, path, text)
            if row + part.num_rows <= first:
                row += part.num_rows
                continue
            columns = [part.column(part.schema.get_field_index(name)) for name in names]
            for values in zip(*columns, strict=True):
                if row >= first:
                    yield row, values, source.tell()
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


def _check(schema: Any, names: Sequence[str], path: Path, text: bool) -> None:
    import pyarrow.types as types

    for name in names:
        index = schema.get_field_index(name)
        if index < 0:
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected a column {name!r} in {path}, got {', '.join(schema.names)}",
                "Name the column with data.field.",
                "data.field",
            )
        kind = schema.field(index).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not text or types.is_string(kind) or types.is_large_string(kind):
            continue
        if not types.is_string_view(kind):
            raise LockstepError(
                "LS_TRAIN_DATA",
                f"expected text in column {name!r} of {path}, got {kind}",
                "Name a column of strings with data.field.",
                "data.field",
            )
