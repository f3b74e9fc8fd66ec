"""log p of answers under the model that a preference training starts from, kept on disk.

One folder for each model, contract and arithmetic, below `reference/` of the cache of texts. In it
each process appends to a file of its own: 32 bytes a row, a hash of the row and its two numbers. A
row is computed when it is first drawn, and found by every later epoch, resumption and training.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.loader import load_module
from lockstep.operator.model import Model
from lockstep.training import lora
from lockstep.training.answers import Row, log_probs
from lockstep.training.settings import Job
from lockstep.weights import reader as weights

VERSION = 1
RECORD = np.dtype([("row", "S16"), ("logp", "<f8", (2,))])


class Reference:
    """log p0 of rows. model: the one that is trained; with adapters alone it is the reference, too,
    while they are switched off. read: its `lockstep.contract.Contract`.

    Raises LS_TRAIN_NAN where the starting model's numbers are not finite.
    """

    def __init__(self, job: Job, read: Any, model: Model, rank: int, dtype: str):
        self.job, self.read, self.model, self.dtype = job, read, model, dtype
        self._copy: Model | None = None
        cache = job.root / (job.training.texts.cache or Path(".lockstep") / "cache")
        self.folder = cache / "reference" / self._identity()
        self.file = self.folder / f"{rank}.bin"
        self._new: dict[bytes, tuple[float, float]] = {}
        self._kept = self._read()
        self._order = np.argsort(self._kept["row"])
        #: Rows computed by this process; the others were found.
        self.computed = 0

    def __call__(self, rows: Sequence[Row]) -> list[tuple[float, float]]:
        """log p0 of both answers of each row, in nats."""
        keys = [_key(row) for row in rows]
        found = [self._find(key) for key in keys]
        missing = [n for n, one in enumerate(found) if one is None]
        if missing:
            for n, value in zip(missing, self._compute([rows[n] for n in missing]), strict=True):
                found[n] = self._new[keys[n]] = value
            self._append([keys[n] for n in missing])
        return [one for one in found if one is not None]

    def _find(self, key: bytes) -> tuple[float, float] | None:
        if key in self._new:
            return self._new[key]
        at = int(np.searchsorted(self._kept["row"], key, sorter=self._order))
        if at == len(self._kept) or self._kept["row"][self._order[at]] != key.rstrip(b"\0"):
            return None
        first, second = self._kept["logp"][self._order[at]].tolist()
        return first, second

    def _compute(self, rows: Sequence[Row]) -> list[tuple[float, float]]:
        job, bfloat16 = self.job, self.job.training.precision == "bfloat16"
        with (
            self._reference() as model,
            torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=bfloat16),
        ):
            found = log_probs(model, rows, job.attention, model.spec.max * job.training.batch)
        if not all(math.isfinite(value) for pair in found for value in pair):
            raise LockstepError(
                "LS_TRAIN_NAN",
                "expected finite log-probabilities from the model that the training starts from, "
                f"got {found[0]}",
                "Its weights are damaged: start from another checkpoint.",
            )
        self.computed += len(rows)
        return found

    @contextmanager
    def _reference(self) -> Iterator[Model]:
        """The model as it was before the first step."""
        s = self.job.training
        if s.lora is not None and not s.trainable:
            with lora.without(self.model.module):
                yield self.model
            return
        if self._copy is None:
            module = load_module(self.job.model, dtype=self.dtype, device=self.job.device)
            self._copy = Model(module, Spec.from_contract(self.read), self.read)
        yield self._copy

    def _identity(self) -> str:
        job = self.job
        started = weights.identify(weights.read(job.model))["sha256"]
        under = self.read.document["digest"] if job.attention == "segmented" else "full"
        identity = [VERSION, started, under, job.training.precision, self.dtype]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]

    def _read(self) -> np.ndarray:
        """Whole records of all files; what a kill left of one at an end is none."""
        parts = [np.empty(0, RECORD)]
        for file in sorted(self.folder.glob("*.bin")):
            size = file.stat().st_size // RECORD.itemsize
            parts.append(np.fromfile(file, RECORD, size))
        return np.concatenate(parts)

    def _append(self, keys: Sequence[bytes]) -> None:
        records = np.array([(key, self._new[key]) for key in keys], RECORD)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                torn = file.tell() % RECORD.itemsize
                if torn:
                    os.ftruncate(file.fileno(), file.tell() - torn)
                file.write(records.tobytes())
        except OSError as error:
            raise LockstepError(
                "LS_TRAIN_CACHE",
                f"expected disk space for the reference's log-probabilities in {self.folder}, got: "
                f"{error.strerror or error}",
                "Make it writable and free disk space, or name another folder with data.cache.",
                "data.cache",
            ) from error


def _key(row: Row) -> bytes:
    """What log p depends on: ids and which of them count; cuts follow from the contract."""
    digest = hashlib.blake2b(digest_size=16)
    for one in row:
        assert one.mask is not None
        digest.update(np.array([len(one.ids), *one.ids], "<i8").tobytes())
        digest.update(np.array(one.mask, "u1").tobytes())
    return digest.digest()
