"""The job behind ``lockstep plan --runtime python``: ids from a file, cuts into a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..bridge import job
from . import reader as contract
from .planner import Planner

_IDS = 1 << 16  # ids held at a time


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Plan ``task["ids"]`` under the contract in the folder ``task["contract"]``.

    ``ids`` and ``cuts`` are files of little-endian int32; ``tokenizer`` is the tokenizer.json that
    the contract names. Emits ``progress`` (``tokens``) as it goes; returns the numbers of tokens
    and cuts.
    """
    planner = Planner(contract.read(task["contract"], tokenizer=task["tokenizer"]))
    segmenter = planner.segmenter()
    tokens = cuts = 0
    try:
        with Path(task["ids"]).open("rb") as source, Path(task["cuts"]).open("wb") as target:
            for ids_T in _chunks(source):
                found = segmenter.push_many(ids_T.tolist())
                np.asarray(found, dtype="<i4").tofile(target)
                tokens, cuts = tokens + len(ids_T), cuts + len(found)
                job.emit("progress", tokens=tokens)
                job.check_cancelled()
    finally:
        planner.close()
    return {"tokens": tokens, "cuts": cuts}


def _chunks(source: BinaryIO) -> Iterator[np.ndarray]:
    while data := source.read(4 * _IDS):
        yield np.frombuffer(data, dtype="<i4")


if __name__ == "__main__":
    job.main(run)
