"""Losses of every window by the trainer's own operator, or by stock full attention."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lockstep.bridge import job
from lockstep.evaluation.loss_files import loss_file, missing, write
from lockstep.evaluation.losses import losses
from lockstep.evaluation.windows import FILE

if TYPE_CHECKING:
    from lockstep.operator.model import Model


def fill(
    folder: Path, rows: Sequence[dict[str, Any]], threads: int | None, dtype: str, device: str
) -> dict[str, float]:
    """Run every row ``{name, dir, attention}`` over the windows of ``folder``; seconds by row.

    Files that are there already are not made again.
    """
    windows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    left = {row["name"]: missing(folder, row["name"], len(windows)) for row in rows}
    total, seconds = len(rows) * len(windows), {}
    done = total - sum(len(one) for one in left.values())
    # One model at a time: rows of one folder share it.
    for directory in dict.fromkeys(row["dir"] for row in rows if left[row["name"]]):
        job.emit("progress", stage="loading", done=done, total=total)
        model = _load(directory, threads, dtype, device)
        for row in (row for row in rows if row["dir"] == directory):
            started = time.monotonic()
            for n in left[row["name"]]:
                job.check_cancelled()
                job.emit("progress", stage=row["name"], done=done, total=total)
                ids = windows[n]["ids"]
                cuts = [] if row["attention"] == "full" else model.plan(ids)
                nll_t = losses(model, ids, cuts, row["attention"])
                write(loss_file(folder, row["name"], n), nll_t.cpu().numpy().tobytes())
                done += 1
            seconds[row["name"]] = time.monotonic() - started
        del model
    return seconds


def _load(directory: str, threads: int | None, dtype: str, device: str) -> Model:
    import torch

    from lockstep.loader import load

    if threads is not None:
        torch.set_num_threads(threads)
    return load(directory, dtype=dtype, device=device)
