"""Job: losses of every window by the trainer's own operator, or by stock full attention.

``python -m lockstep.evaluation.torch_losses`` reads ``{dir, way, row, folder, threads, dtype}``,
takes ``windows.json`` of ``folder`` and leaves ``ROW-N.f64`` for window N: raw float64 nats, one a
target. Files that are there already are not made again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lockstep import job
from lockstep.evaluation.losses import losses
from lockstep.evaluation.windows import FILE


def loss_file(folder: Path, row: str, window: int) -> Path:
    return folder / f"{row}-{window}.f64"


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{made}``: how many windows were run now."""
    import torch

    from lockstep.loader import load

    folder, row = Path(description["folder"]), description["row"]
    windows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    missing = [n for n in range(len(windows)) if not loss_file(folder, row, n).is_file()]
    if not missing:
        return {"made": 0}
    if description["threads"] is not None:
        torch.set_num_threads(description["threads"])
    model = load(description["dir"], dtype=description["dtype"])
    for done, n in enumerate(missing):
        job.check_cancelled()
        job.emit("progress", done=len(windows) - len(missing) + done, total=len(windows))
        ids = windows[n]["ids"]
        cuts = [] if description["way"] == "full" else model.plan(ids)
        nll_t = losses(model, ids, cuts, description["way"])
        _write(loss_file(folder, row, n), nll_t.cpu().numpy().tobytes())
    return {"made": len(missing)}


def _write(path: Path, data: bytes) -> None:
    """Whole or absent, so that an interrupted evaluation goes on with what is there."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    os.replace(part, path)


if __name__ == "__main__":
    job.main(run)
