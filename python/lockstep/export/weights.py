"""A checkpoint's safetensors, one tensor at a time, and the file that holds a graph's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import TensorProto, helper

from ..weights import reader as weights

_PAGE = 4096


class Checkpoint:
    """Tensors of a Hugging Face directory by name, as float32 numpy arrays. Reads on demand.

    Raises what ``weights.read`` raises.
    """

    def __init__(self, directory: Path):
        from safetensors import safe_open

        found = weights.read(directory)
        handles = {path.name: safe_open(str(path), framework="pt") for path in found.paths}
        self._where = {name: handles[stored.file] for name, stored in found.tensors.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __getitem__(self, name: str) -> np.ndarray:
        return self._where[name].get_tensor(name).float().numpy()

    def get(self, name: str) -> np.ndarray | None:
        return self[name] if name in self else None  # noqa: SIM401


class WeightFile:
    """Writes tensors one after another to one external-data file, so that no more than one of them
    is in memory; hashes what it writes."""

    def __init__(self, path: Path):
        self.path, self.bytes, self._hash = path, 0, hashlib.sha256()
        self._stream: BinaryIO = path.open("wb")

    def add(self, name: str, array: np.ndarray, dims: list[int] | None = None) -> TensorProto:
        """Append ``array`` (float32, uint8 or integers) and return the initializer for it."""
        data = np.ascontiguousarray(array)
        self._write(b"\0" * (-self.bytes % _PAGE))  # aligned, so that it can be memory-mapped
        tensor = TensorProto(
            name=name,
            dims=dims if dims is not None else list(data.shape),
            data_type=helper.np_dtype_to_tensor_dtype(data.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (
            ("location", self.path.name),
            ("offset", str(self.bytes)),
            ("length", str(data.nbytes)),
        ):
            tensor.external_data.add(key=key, value=value)
        self._write(data.tobytes())
        return tensor

    def close(self) -> dict[str, object]:
        """Close the file; its size and SHA-256 for ``meta.json``."""
        self._stream.close()
        return {"bytes": self.bytes, "sha256": self._hash.hexdigest()}

    def _write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self.bytes += len(data)
