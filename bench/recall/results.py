"""Writes RESULTS.md of this folder from ``raw/``.

PYTHONPATH=python .venv/bin/python bench/recall/results.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from lockstep.evaluation import intervals

HERE = Path(__file__).resolve().parent
HEAD = """# Recall: results

Written by `bench/recall/results.py` from `bench/recall/raw/`. SmolLM2-135M-Instruct, untrained;
facts of the split `eval` (numbers, names, code identifiers, sentences), one at each of five
depths, in Paradise Lost from character 60,000, asked through the chat template; S = 512, M = 256,
A = 4, `blocks` of 32, R = 512, distance 128, W = 16, 27 of 90 KV heads long by `lockstep profile
--method recall` on Shakespeare (`profile.json`), every head carries, cuts
`anyOf(after(sentences(), 384), turns())`, unless the table says otherwise. Drafts have M = 128.
Intervals are 95%, over documents; fewer than eight documents give none, and prove little.
"""


def windows() -> list[str]:
    """Tables of ``windows.py``, a length each."""
    out = []
    files = [*HERE.glob("raw/windows-*.jsonl"), *HERE.glob("raw/single-*.jsonl")]
    for path in sorted(files, key=lambda p: (len(p.stem.split("-")), _length(p), p.name)):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        by_setting: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for line in lines:
            by_setting[line["setting"]].append(line)
        one = lines[0]
        kind, _, *more = path.stem.split("-")
        more = ["one fact a document", *more] if kind == "single" else more
        out += [f"## {_length(path):,} tokens{''.join(f' ({one})' for one in more)}", ""]
        note = path.with_suffix(".md")
        if note.is_file():
            out += [note.read_text("utf-8").strip(), ""]
        out += [
            f"`{one['command']}`, {one['machine']}, {one['date']}.",
            "",
            "| | documents | facts | recalled | log p | heads that hold it |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        out += [_row(name, of) for name, of in by_setting.items()]
        out += [""]
    return out


def _length(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _row(name: str, lines: list[dict[str, Any]]) -> str:
    facts = [fact for line in lines for fact in line["answers"]]
    shares = [sum(f["recalled"] for f in line["answers"]) / len(line["answers"]) for line in lines]
    logp = sum(fact["logp"] for fact in facts) / len(facts)
    far = [fact["held"] for fact in facts if fact["held"]]
    total = max((_count(line) for line in lines), default=0)
    held = [sum(map(len, one.values())) / total for one in far] if total else []
    shown = f"{sum(held) / len(held):.2f}" if held else ""
    mean = intervals.mean(shares)
    return f"| {name} | {len(lines)} | {len(facts)} | {_bounded(mean)} | {logp:.2f} | {shown} |"


def _count(line: dict[str, Any]) -> int:
    return int(line.get("long_heads", 0))


def _bounded(one: intervals.Estimate) -> str:
    bounds = "" if one.low is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.2f}{bounds}"


def grid() -> list[str]:
    """The table of ``grid.sh``."""
    path = HERE / "raw" / "grid.json"
    if not path.is_file():
        return ["## The whole grid", "", "Not measured yet: `sh bench/recall/grid.sh`.", ""]
    found = json.loads(path.read_text("utf-8").splitlines()[-1])
    lengths = found["asked"]["lengths"]
    out = [
        "## The whole grid",
        "",
        f"`sh bench/recall/grid.sh`; {found['asked']['samples']} documents a length.",
        "",
        f"| | {' | '.join(f'{n:,}' for n in lengths)} |",
        f"| --- |{' --- |' * len(lengths)}",
    ]
    for row in found["rows"]:
        cells = [
            f"{one['recalled']:.2f}"
            + ("" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]")
            for one in row["lengths"]
        ]
        out.append(f"| {row['name']} | {' | '.join(cells)} |")
    return [*out, ""]


def main() -> None:
    text = "\n".join([HEAD, *grid(), *windows()]).rstrip() + "\n"
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
