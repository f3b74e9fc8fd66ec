"""A checkpoint's safetensors, one tensor at a time, and the file that holds a graph's weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import TensorProto, helper

from .errors import LockstepError

_PAGE = 4096
_SAMPLES, _SAMPLE_BYTES = 256, 4096


class Checkpoint:
    """Tensors of a Hugging Face directory by name, as float32 numpy arrays. Reads on demand."""

    def __init__(self, directory: Path):
        from safetensors import safe_open

        self.files = weight_files(directory)
        self._handles = [safe_open(str(file), framework="pt") for file in self.files]
        self._where = {name: handle for handle in self._handles for name in handle.keys()}  # noqa: SIM118

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._where:
            raise LockstepError(
                "LS_EXPORT_WEIGHTS",
                f"expected the tensor {name} in the checkpoint, got none",
                "check that every safetensors file is there",
            )
        return self._where[name].get_tensor(name).float().numpy()

    def get(self, name: str) -> np.ndarray | None:
        return self[name] if name in self else None  # noqa: SIM401


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint, by name. Raises LS_EXPORT_WEIGHTS if none."""
    index = directory / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        files = [directory / name for name in names]
    else:
        files = [directory / "model.safetensors"]
    for file in files:
        if not file.exists():
            raise LockstepError(
                "LS_EXPORT_WEIGHTS",
                f"expected weights in {file.name}, got no such file in {directory}",
                "give a Hugging Face directory with safetensors weights",
            )
    return files


def fingerprint(directory: Path) -> list[dict[str, object]]:
    """Size and a sampled SHA-256 of each weight file, so that an engine notices an export that is
    older than its checkpoint without reading all of it.

    The digest covers 256 blocks of 4 KiB, evenly spaced, the first and the last included
    (``src/engines/onnx/files.ts`` computes the same).
    """
    out: list[dict[str, object]] = []
    for file in weight_files(directory):
        size, digest = file.stat().st_size, hashlib.sha256()
        with file.open("rb") as stream:
            for sample in range(_SAMPLES):
                stream.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
        out.append({"name": file.name, "bytes": size, "sample": digest.hexdigest()})
    return out


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
