"""The section of a RESULTS.md that shows bench/raw/llama.json."""

from __future__ import annotations

import json
from pathlib import Path

from report import origin, table

LABELS = {
    "segmented": "segmented",
    "full": "full attention, one pass",
    "full-chunked": "full attention, in chunks",
}


def gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def of_ceiling(raw: dict, row: dict) -> list[str]:
    """Time's and peak memory's ratio to segmented, each with its ceiling and share of it."""
    found = [r for r in raw["ratios"] if (r["tokens"], r["full"]) == (row["tokens"], row["mode"])]
    if not found:
        return ["", ""]
    (ratio,), most = found, raw["ceilings"][str(row["tokens"])]
    return [
        f"{ratio[key]:.2f} of {most[limit]:.2f} ({ratio['ofCeiling'][key]:.0%})"
        for key, limit in (("time", "time"), ("peak", "memory"))
    ]


def llama_section(path: Path) -> str:
    """Empty where nothing was measured yet."""
    if not path.is_file():
        return ""
    raw = json.loads(path.read_text())
    rows = []
    for row in raw["rows"]:
        cells = [f"{row['tokens']:,}", LABELS[row["mode"]]]
        if row["outcome"] != "measured":
            rows.append([*cells, row["outcome"], "", "", "", "", ""])
            continue
        rows.append(
            [
                *cells,
                f"{row['seconds']:.2f} s",
                f"{row['tokensPerSecond']:,.0f}",
                gb(row["peakBytes"]),
                gb(row["weightsBytes"] + row["kvBytes"]),
                *of_ceiling(raw, row),
            ]
        )
    head = ["tokens", "", "prefill", "tokens/s", "peak memory", "of it weights and KV"]
    head += ["full / segmented: time", "peak memory"]
    cards = sorted({row["device"]["name"] for row in raw["rows"] if "device" in row})
    parts = [origin(raw), *(f"{card}." for card in cards)]
    one = raw["setting"]
    return (
        f"{' '.join(parts)} Shape `{one['name']}`, random weights, {raw['dtype']}; "
        f"S = {one['segment']:,}, M = {one['carry']}, R = {one['retrieval']}, A = {one['sinks']}. "
        "A ratio stands before its ceiling (bench/llama/ceilings.py: FLOPs; weights and KV) and "
        f"the share of it that was reached.\n\n{table(head, rows)}"
    )
