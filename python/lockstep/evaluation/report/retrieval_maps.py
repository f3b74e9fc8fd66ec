"""Where in the text the retrieved rows came from, counted for a picture."""

from __future__ import annotations

from typing import Any

import torch

from .passes import Pass

COLUMNS = 64


def retrieval_maps(run: Pass, sinks: int, length: int) -> dict[str, Any] | None:
    """Per layer of L_long a table [boundaries][columns]: how full of retrieved rows a stretch is.

    A column is a stretch of ``bin`` tokens of the text; its value the share, over the layer's long
    heads, of its tokens that were retrieved at the boundary (None: the stretch lies wholly behind
    the boundary). back: per layer the median distance, in tokens, from a boundary to a retrieved
    row. None where nothing was retrieved.
    """
    layers = sorted({layer for found in run.retrieved for layer in found})
    if not layers or not run.boundaries:
        return None
    width = max(1, -(-length // COLUMNS))
    columns = -(-length // width)
    maps = []
    for layer in layers:
        rows: list[list[float | None]] = []
        distances = []
        for at, found in zip(run.boundaries, run.retrieved, strict=True):
            heads, rows_n = len(found[layer]), found[layer][found[layer] >= 0]
            tokens_n = rows_n + sinks  # positions count within the pool
            counts_B = torch.bincount(tokens_n // width, minlength=columns)
            row = [
                int(counts_B[b]) / (heads * (min(at, (b + 1) * width) - b * width))
                if b * width < at
                else None
                for b in range(columns)
            ]
            rows.append(row)
            distances.append(at - tokens_n)
        every = torch.cat(distances)
        median = float(every.median()) if len(every) else None
        maps.append({"layer": layer, "rows": rows, "back": median})
    return {"bin": width, "boundaries": run.boundaries, "maps": maps}
