"""Perplexity by length and by position, and rows against each other, out of losses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.evaluation.intervals import BLOCK, DRAWS, LEVEL, Blocks, Floats, perplexity, ratio
from lockstep.evaluation.loss_files import loss_file
from lockstep.evaluation.windows import FILE


def summarize(folder: Path, lengths: list[int], description: dict[str, Any]) -> dict[str, Any]:
    """description: ``{rows, pairs, bins}``, names of rows whose losses lie in ``folder``, and pairs
    of names to compare."""
    windows = json.loads((folder / FILE).read_text(encoding="utf-8"))
    rows = {
        name: [_read(folder, name, n, len(window["ids"]) - 1) for n, window in enumerate(windows)]
        for name in description["rows"]
    }
    return {
        "interval": {"level": LEVEL, "draws": DRAWS, "block": BLOCK},
        "rows": {
            name: {
                "byLength": [_at_length(parts, length) for length in lengths],
                "byPosition": by_position(parts, description["bins"]),
            }
            for name, parts in rows.items()
        },
        "ratios": [
            {"of": a, "to": b, "tokens": length, **_ratio(rows[a], rows[b], length)}
            for a, b in description["pairs"]
            for length in lengths
        ],
    }


def _read(folder: Path, name: str, window: int, targets: int) -> Floats:
    losses_t = np.fromfile(loss_file(folder, name, window), dtype=np.float64)
    if len(losses_t) != targets or not np.isfinite(losses_t).all():
        raise LockstepError(
            "LS_EVAL_LOSSES",
            f"expected {targets} finite losses of row {name}, window {window}, got "
            f"{len(losses_t)}, {int(np.isfinite(losses_t).sum())} of them finite",
            "Remove the folder given with --out. If the error persists, check the weights with "
            "lockstep verify.",
        )
    return losses_t


def _at_length(parts: list[Floats], length: int) -> dict[str, Any]:
    blocks = Blocks.of([part[: length - 1] for part in parts])
    return {"tokens": length, "nll": blocks.mean, **perplexity(blocks).as_dict("perplexity")}


def by_position(parts: list[Floats], bins: int) -> list[dict[str, Any]]:
    """Perplexity of the tokens [from, to): position 0, which nothing predicts, has none."""
    total = len(parts[0]) + 1
    edges = sorted({round(total * i / bins) for i in range(bins + 1)} - {0} | {1})
    out = []
    for start, end in pairwise(edges):
        blocks = Blocks.of([part[start - 1 : end - 1] for part in parts])
        out.append({"from": start, "to": end, **perplexity(blocks).as_dict("perplexity")})
    return out


def _ratio(a: list[Floats], b: list[Floats], length: int) -> dict[str, Any]:
    first, second = (Blocks.of([part[: length - 1] for part in parts]) for parts in (a, b))
    return ratio(first, second).as_dict("ratio")
