"""Reads the rows of train.py and prints what they decide, by thresholds that were set beforehand.

usage: python bench/gpu/verdict.py FILE.jsonl [--json]

Every comparison is a segment-trained model over the full-trained one of the same seed, both run
segmented. Intervals are Student's t over seeds, two-sided, 95%; of ratios, in their logarithms.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from stats import T95

RESCUE = 0.8  # A = 0: below it at 4x, the paper's rescue is reproduced
LESS, MORE = 0.98, 1.02  # A = 4: perplexity's band of no difference
POINTS = 5.0  # of recall
Rows = list[dict[str, Any]]
Table = dict[tuple[int, str, str], dict[str, Any]]


def table(rows: Rows) -> Table:
    """(seed, arm, way) -> its perplexity and needles; the last of a kind counts."""
    out: Table = {}
    for row in rows:
        if "way" in row:
            kept = {k: row[k] for k in ("perplexity", "needles") if k in row}
            out.setdefault((row["seed"], row["arm"], row["way"]), {}).update(kept)
    return out


def interval(values: list[float]) -> dict[str, Any]:
    """Mean, and the ends of its interval where there are two values or more."""
    out: dict[str, Any] = {"n": len(values), "mean": None, "low": None, "high": None}
    if values:
        out["mean"] = statistics.mean(values)
    if len(values) > 1:
        half = T95[len(values) - 2] * statistics.stdev(values) / math.sqrt(len(values))
        out |= {"low": out["mean"] - half, "high": out["mean"] + half}
    return out


def pairs(found: Table, arm: str, way: str, key: str) -> list[tuple[Any, Any]]:
    """Of every seed that has both: (segment-trained, full-trained), run the same way."""
    seeds = sorted({s for s, a, w in found if (a, w) == (arm, way)})
    both = [(found[s, arm, way], found.get((s, "full", way), {})) for s in seeds]
    return [(a[key], b[key]) for a, b in both if key in a and key in b]


def ratio(found: Table, arm: str, way: str, length: str) -> dict[str, Any]:
    logs = [
        math.log(a[length] / b[length])
        for a, b in pairs(found, arm, way, "perplexity")
        if length in a and length in b
    ]
    out = interval(logs)
    return {k: math.exp(v) if k != "n" and v is not None else v for k, v in out.items()}


def points(found: Table, arm: str, way: str, length: str | None = None) -> dict[str, Any]:
    """Recall's difference in points, over the cells (length, kind) that both have in whole."""
    out = []
    for a, b in pairs(found, arm, way, "needles"):
        cells = [
            (a[n][kind], b[n][kind])
            for n in a
            for kind in a[n]
            if length in (None, n) and len(b.get(n, {}).get(kind, [])) == len(a[n][kind]) > 0
        ]
        if cells:
            means = [statistics.mean(x) - statistics.mean(y) for x, y in cells]
            out.append(100 * statistics.mean(means))
    return interval(out)


def verdict(rows: Rows, far: int) -> dict[str, Any]:
    """``far``: 4x of the trained length, where perplexity decides; recall decides over all lengths.

    rescue: True, False, or None without a pair. beyond: "adds", "nothing", or "undecided".
    """
    found = table(rows)
    zero, four = (ratio(found, arm, arm, str(far)) for arm in ("A0", "A4"))
    recall = points(found, "A4", "A4")
    low_ppl = four["high"] is not None and four["high"] < LESS
    low, mean = recall["low"], recall["mean"]
    high_recall = low is not None and mean >= POINTS and low > 0
    if low_ppl or high_recall:
        beyond = "adds"
    elif four["n"] > 1 and recall["n"] > 1 and LESS <= four["mean"] <= MORE and abs(mean) <= POINTS:
        beyond = "nothing"
    else:
        beyond = "undecided"
    rescue = None if zero["mean"] is None else zero["mean"] < RESCUE
    return {"far": far, "A0": zero, "A4": four, "recall": recall, "rescue": rescue} | {
        "beyond": beyond
    }


def shown(value: dict[str, Any], digits: int) -> str:
    if value["mean"] is None:
        return "no pair"
    text = f"{value['mean']:.{digits}f}"
    if value["low"] is not None:
        text += f" [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"
    return f"{text} (n = {value['n']})"


def report(rows: Rows, result: dict[str, Any]) -> str:
    found = table(rows)
    lengths = sorted({n for v in found.values() for n in v.get("perplexity", {})}, key=int)
    lines = ["| arm, run | tokens | perplexity ratio | recall, points |", "|---|---|---|---|"]
    for arm, way in (("A0", "A0"), ("A4", "A4"), ("A4K0", "A4")):
        for n in lengths:
            cells = shown(ratio(found, arm, way, n), 3), shown(points(found, arm, way, n), 1)
            lines.append(f"| {arm}, {way} | {n} | {cells[0]} | {cells[1]} |")
    lines += ["", "| seed, arm, run | perplexity by length | recall |", "|---|---|---|"]
    for (seed, arm, way), value in sorted(found.items()):
        ppl = " / ".join(f"{value.get('perplexity', {}).get(n, math.nan):.2f}" for n in lengths)
        hits = [
            f"{n} {kind} {sum(v)}/{len(v)}"
            for n, kinds in value.get("needles", {}).items()
            for kind, v in kinds.items()
        ]
        lines.append(f"| {seed}, {arm}, {way} | {ppl} | {', '.join(hits)} |")
    missing = [r for r in rows if {"skipped", "error", "partial"} & r.keys()]
    lines += ["", f"{len(missing)} rows were skipped or failed."]
    for row in missing:
        what = row.get("skipped", "needles, in part")
        why = row.get("error") or f"{what}: {row.get('reason', 'time')}"
        lines.append(f"- {row['seed']}, {row['arm']} {row.get('way', '')}: {why}")
    rescue = {
        None: "No pair of arms without sinks: nothing is said about the paper's rescue.",
        True: f"A = 0 below {RESCUE} at {result['far']} tokens: the paper's rescue is reproduced.",
        False: f"A = 0 not below {RESCUE} at {result['far']} tokens: the rescue is not reproduced.",
    }[result["rescue"]]
    beyond = {
        "adds": "Training in segments adds something beyond sinks.",
        "nothing": "Training in segments adds nothing at this scale: README sells bounded memory "
        "and the guarantee.",
        "undecided": "A = 4 is undecided: the results meet no threshold, or pairs are missing.",
    }[result["beyond"]]
    return "\n".join([*lines, "", rescue, beyond])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not args.results.is_file():
        sys.exit(f"expected rows of train.py in a file, got none at {args.results}")
    rows = [json.loads(line) for line in args.results.read_text().splitlines()]
    settings = [row["settings"] for row in rows if "settings" in row]
    if not settings:
        sys.exit(f"expected a row of settings in {args.results}, got none")
    result = verdict(rows, settings[0]["far"])
    print(json.dumps(result) if args.json else report(rows, result))


if __name__ == "__main__":
    main()
