"""The header of a safetensors file: names, types, shapes and places of its tensors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import LockstepError

#: The format's own limit (safetensors, ``MAX_HEADER_SIZE``), in bytes.
HEADER_LIMIT = 100_000_000
_EXACT = 2**53  # above it, JavaScript's numbers are not exact

#: Bytes of one element, by the format's names of types.
ELEMENT_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_AGAIN = "Copy the file again from the original checkpoint."


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: bytes [begin, end) of its file."""

    file: str
    dtype: str
    shape: list[int]
    begin: int
    end: int


def read_header(folder: Path, file: str) -> dict[str, Stored]:
    """Read a header as strictly as safetensors itself: the tensors tile the file, without a hole,
    an overlap or a byte too many (counterpart of ``readHeader`` in src/weights/header.ts).

    Raises ``LS_MODEL_WEIGHTS_FILES`` for what is no regular file, ``LS_MODEL_WEIGHTS_HEADER``.
    """
    whole = folder / file
    if not whole.exists():
        raise _files(f"expected {file} in {folder}, got no such file")
    if not whole.is_file():
        raise _files(f"expected {file} in {folder} to be a regular file, got something else")
    try:
        stream = whole.open("rb")
    except OSError as error:
        name = "EACCES" if isinstance(error, PermissionError) else type(error).__name__
        raise _files(f"expected to read {file} in {folder}, got {name}") from error
    with stream:
        return _parse(stream, file, whole.stat().st_size)


def _parse(stream: BinaryIO, file: str, size: int) -> dict[str, Stored]:
    length = stream.read(8)
    if len(length) < 8:
        raise _bad(file, f"a length of 8 bytes, got {size} bytes in all")
    count = int.from_bytes(length, "little")
    most = min(HEADER_LIMIT, size - 8)
    if count > most:
        raise _bad(file, f"a header of at most {most} bytes, got {count}")
    entries = _strict_json(stream.read(count))
    if not isinstance(entries, dict):
        raise _bad(file, "a JSON object of whole numbers, got something else")
    data, tensors = 8 + count, {}
    for name, value in entries.items():
        if name == "__metadata__":
            _check_metadata(file, value)
        else:
            tensors[name] = _entry(file, name, value, data)
    _check_tiling(file, tensors, data, size)
    return tensors


def _entry(file: str, name: str, value: Any, data: int) -> Stored:
    held: dict[str, Any] = value if isinstance(value, dict) else {}
    dtype, shape, offsets = held.get("dtype"), held.get("shape"), held.get("data_offsets")
    if (
        len(held) != 3
        or not isinstance(dtype, str)
        or shape is None
        or offsets is None
        or not _whole_numbers(shape)
        or not _whole_numbers(offsets)
        or len(offsets) != 2
    ):
        raise _bad(file, f"dtype, shape and data_offsets for {name}, got something else")
    if dtype not in ELEMENT_BYTES:
        raise _bad(file, f"a known type for {name}, got {dtype}")
    wanted = math.prod(shape) * ELEMENT_BYTES[dtype]
    begin, end = offsets
    if end - begin != wanted:
        raise _bad(file, f"{wanted} bytes for {name} ({dtype} {shape}), got [{begin}, {end}]")
    return Stored(file, dtype, shape, data + begin, data + end)


def _check_metadata(file: str, value: Any) -> None:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return
    raise _bad(file, "texts in __metadata__, got something else")


def _check_tiling(file: str, tensors: dict[str, Stored], data: int, size: int) -> None:
    """Tensors in order of place: each begins where the one before it ends, the last ends with the
    file."""
    at = data
    for name, one in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if one.begin != at:
            got = one.begin - data
            raise _bad(file, f"{name} to begin at byte {at - data} of the data, got {got}")
        at = one.end
    if at != size:
        raise _bad(file, f"{at} bytes in all, as its header says, got {size}")


def _strict_json(raw: bytes) -> Any:
    """JSON of UTF-8 whose numbers are whole and not negative; None for anything else."""

    def refuse(_: str) -> None:
        raise ValueError

    def whole(text: str) -> int:
        if text.startswith("-"):
            raise ValueError
        return int(text)

    try:
        return json.loads(
            raw.decode("utf-8"), parse_float=refuse, parse_constant=refuse, parse_int=whole
        )
    except (ValueError, RecursionError):
        return None


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and n < _EXACT for n in value)


def _files(message: str) -> LockstepError:
    return LockstepError("LS_MODEL_WEIGHTS_FILES", message, _AGAIN)


def _bad(file: str, expected: str) -> LockstepError:
    return LockstepError("LS_MODEL_WEIGHTS_HEADER", f"{file}: expected {expected}", _AGAIN, file)
