"""Logs of a training for other programs: one JSON object per line, and TensorBoard's event files.

Both hold every step of the training once: what was logged after the checkpoint that a resumption
continues from is taken back.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Protocol

from lockstep.errors import LockstepError

LINES = "train.jsonl"
#: What goes to TensorBoard, by the event's name: field -> tag.
TAGS = {
    "step": {
        "loss": "train/loss",
        "learningRate": "train/learning_rate",
        "gradientNorm": "train/gradient_norm",
        "tokens": "train/tokens",
        "tokensPerSecond": "train/tokens_per_second",
        "memory": "train/memory_bytes",
        "margin": "train/margin",
        "accuracy": "train/accuracy",
    },
    "score": {
        "segmented": "validation/segmented",
        "full": "validation/full",
        "margin": "validation/margin",
        "accuracy": "validation/accuracy",
    },
}


class Log(Protocol):
    """Where events go."""

    name: str

    def write(self, event: str, fields: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def opened(folder: Path | None, step: int) -> list[Log]:
    """The logs in ``folder``, to continue after ``step`` (0: a new training; what is there goes).

    Raises LS_TRAIN_LOG where it cannot be written.
    """
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [JsonLinesLog(folder / LINES, step), TensorBoardLog(folder, step)]
    except OSError as error:
        raise LockstepError(
            "LS_TRAIN_LOG",
            f"expected to write logs to {folder}, got {error.strerror or error}",
            "Give --logs a folder that can be written.",
        ) from error


class JsonLinesLog:
    """`train.jsonl`: every event as it was reported, flushed line by line."""

    name = LINES

    def __init__(self, path: Path, step: int):
        kept = _until(path, step) if step else []
        partial = path.with_name(f".{path.name}.new")
        partial.write_text("".join(kept), encoding="utf-8")
        os.replace(partial, path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, fields: dict[str, Any]) -> None:
        if event == "start":
            fields = {k: v for k, v in fields.items() if k != "curve"}  # it stands above
        finite = {k: _finite(v) for k, v in fields.items()}
        self._file.write(json.dumps({"event": event, **finite}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class TensorBoardLog:
    """Scalars for TensorBoard (`tensorboard --logdir FOLDER`)."""

    name = "for TensorBoard"

    def __init__(self, folder: Path, step: int):
        from tensorboardX import SummaryWriter

        if not step:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def write(self, event: str, fields: dict[str, Any]) -> None:
        for field, tag in TAGS.get(event, {}).items():
            value = fields.get(field)
            if value is not None:
                self._writer.add_scalar(tag, float(value), fields["step"])
        if event == "score":
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _until(path: Path, step: int) -> list[str]:
    """Whole lines of ``path`` up to the events of ``step``."""
    if not path.is_file():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or json.loads(line).get("step", 0) > step:
            break
        kept.append(line)
    return kept


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
