"""Job: perplexity of one or more models on the same stretches of text.

``python -m lockstep.evaluation.ppl`` reads ``{folder, windows, rows, threads, dtype, device,
summary}``: it cuts the windows (`windows.cut_windows`), runs the rows that are torch's
(`torch_losses.fill`) and, unless ``summary`` is null, sums up (`summary.summarize`). The
caller computes the rows of other engines itself, between two calls.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.evaluation.summary import summarize
from lockstep.evaluation.torch_losses import fill
from lockstep.evaluation.windows import cut_windows


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{lengths, skipped, unused, windows, seconds, interval, rows, ratios}``, if asked for."""
    folder = Path(description["folder"])
    out = cut_windows(folder, description["windows"])
    out["seconds"] = fill(
        folder,
        description["rows"],
        description["threads"],
        description["dtype"],
        description["device"],
    )
    if description["summary"] is not None:
        out |= summarize(folder, out["lengths"], description["summary"])
    return out


if __name__ == "__main__":
    job.main(run)
