"""Writes RESULTS.md of this folder from ``raw/``.

PYTHONPATH=python .venv/bin/python bench/recall/results.py
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from lockstep.evaluation import intervals

HERE = Path(__file__).resolve().parent
HEAD = """# Recall: results

Written by `bench/recall/results.py` from `bench/recall/raw/`. SmolLM2-135M-Instruct, untrained;
needles of the split `eval` (numbers, names, code identifiers, sentences), one at each of five
depths, in Paradise Lost from character 60,000, asked through the chat template; S = 512, M = 256,
A = 4, `blocks` of 32, R = 512, distance 128, W = 16, 27 of 90 KV heads long by `lockstep profile
--method recall` on Shakespeare (`profile.json`), every head carries, cuts
`anyOf(after(sentences(), 384), turns())`, unless the table says otherwise. Drafts have M = 128.
"By gates": the long heads are those of `gates.json`, made by `gates.py --steps 32` on Shakespeare.
Intervals are 95%, over documents; fewer than eight documents give none, and prove little.
"""


#: The arms of ``training/adds.py`` as the table names them.
ARMS = {
    "untrained": "not at all",
    "segmented": "in segments",
    "segmented K=0": "in segments, K = 0",
    "another policy": "in segments of 512 tokens, whatever they say (another policy)",
    "full": "with full attention",
}


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
        more = ["one needle a document", *more] if kind == "single" else more
        out += [f"## {_length(path):,} tokens{''.join(f' ({one})' for one in more)}", ""]
        note = path.with_suffix(".md")
        if note.is_file():
            out += [note.read_text("utf-8").strip(), ""]
        out += [
            f"`{one['command']}`, {one['machine']}, {one['date']}.",
            "",
            "| | documents | needles | recalled | log p | heads that hold it |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        out += [_row(name, of) for name, of in by_setting.items()]
        out += [""]
    return out


def _length(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _row(name: str, lines: list[dict[str, Any]]) -> str:
    needles = [one for line in lines for one in line["answers"]]
    shares = [sum(f["recalled"] for f in line["answers"]) / len(line["answers"]) for line in lines]
    logp = sum(one["logp"] for one in needles) / len(needles)
    far = [one["held"] for one in needles if one["held"]]
    total = max((_count(line) for line in lines), default=0)
    held = [sum(map(len, one.values())) / total for one in far] if total else []
    shown = f"{sum(held) / len(held):.2f}" if held else ""
    mean = intervals.mean(shares)
    return f"| {name} | {len(lines)} | {len(needles)} | {_bounded(mean)} | {logp:.2f} | {shown} |"


def _count(line: dict[str, Any]) -> int:
    return int(line.get("long_heads", 0))


def _bounded(one: intervals.Estimate, digits: int = 2) -> str:
    """A value and its interval, which few documents or samples do not have. No -0."""
    bounds = ""
    if one.low is not None and one.high is not None:
        bounds = f" [{_rounded(one.low, digits)}, {_rounded(one.high, digits)}]"
    return _rounded(one.value, digits) + bounds


def _rounded(value: float, digits: int) -> str:
    """Halves away from 0: a mean of 31/40 is 0.78, however its sum was rounded."""
    return f"{value + math.copysign(1e-9, value):z.{digits}f}"


#: The rows of ``lockstep recall`` as the tables name them.
GRID = {
    "untrained-full": "full attention",
    "untrained-segmented": "in segments",
    "beside-recall-old": "in segments, the quickstart's contract until 2026-11-28",
}


def grids() -> list[str]:
    """Tables of ``grid.sh``, one a run."""
    out = []
    for path in sorted(HERE.glob("raw/grid-*.jsonl"), key=_length):
        facts, found = (json.loads(line) for line in path.read_text("utf-8").splitlines())
        lengths, samples = found["asked"]["lengths"], found["asked"]["samples"]
        depths = len(found["asked"]["depths"])
        out += [
            f"## The grid, {', '.join(f'{n:,}' for n in lengths)} tokens",
            "",
            f"`{facts['command']}`, {facts['machine']}, {facts['date']}; {samples} documents and "
            f"{samples * depths} needles a length.",
            "",
            f"| | {' | '.join(f'{n:,}' for n in lengths)} |",
            f"| --- |{' --- |' * len(lengths)}",
        ]
        rows = {row["name"]: row for row in found["rows"]}
        for name in [*(one for one in GRID if one in rows), *(set(rows) - set(GRID))]:
            cells = [
                _bounded(intervals.Estimate(one["recalled"], one["low"], one["high"]))
                for one in rows[name]["lengths"]
            ]
            out.append(f"| {GRID.get(name, name)} | {' | '.join(cells)} |")
        out.append("")
    return out


#: The rows of ``ruler.sh`` as the table names them: contract, row of `lockstep eval`.
RULER = {
    ("new", "untrained-full"): "full attention",
    ("new", "untrained-segmented"): "in segments",
    ("old", "untrained-segmented"): GRID["beside-recall-old"],
}


def ruler() -> list[str]:
    """The table of ``ruler.sh``, over its lengths."""
    out = [
        "## RULER, untrained",
        "",
        "`lockstep eval --suite ruler --chat`, the haystack of Paradise Lost; scores from 0 to 100,"
        " intervals over the samples.",
        "",
    ]
    for path in sorted(HERE.glob("raw/ruler-*.jsonl"), key=_length):
        facts, *answers = (json.loads(line) for line in path.read_text("utf-8").splitlines())
        one = answers[0]
        tasks = [f"`{task}`" for task in one["tasks"]]
        out += [
            f"`{facts['command']}`, {facts['machine']}, {facts['date']}; {one['samples']} samples"
            f" of each task.",
            "",
            f"| {_length(path):,} tokens | {' | '.join(tasks)} | mean |",
            f"| --- |{' --- |' * len(tasks)} --- |",
        ]
        rows = {(found["contract"], row["name"]): row for found in answers for row in found["rows"]}
        for key, name in RULER.items():
            row = rows[key]
            (mean,) = row["means"]
            cells = [f"{score['score']:.0f}" for score in row["scores"]]
            cells.append(_of_hundred(mean, "score"))
            out.append(f"| {name} | {' | '.join(cells)} |")
        (less,) = one["differences"]
        out += ["", f"In segments less full attention: {_of_hundred(less, 'difference')}.", ""]
    return out


def _of_hundred(found: dict[str, float | None], key: str) -> str:
    """A score of 0 to 100, or the difference of two, and its interval."""
    value, low, high = (found[name] for name in (key, "low", "high"))
    assert value is not None
    return _bounded(intervals.Estimate(value, low, high), 0)


def adds() -> list[str]:
    """Tables of ``training/adds.py``, a length each: what training adds, over its seeds."""
    out = []
    for path in sorted(HERE.glob("raw/adds-*.jsonl"), key=_length):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        steps = max(line["steps"] for line in lines)
        lines = [line for line in lines if line["steps"] in (0, steps)]
        one = lines[-1]
        by_arm: dict[str, dict[tuple[int, int], dict[str, Any]]] = defaultdict(dict)
        for line in lines:
            by_arm[line["arm"]][line["seed"], line["document"]] = line
        seeds = {name: len({seed for seed, _ in of}) for name, of in by_arm.items()}
        out += [
            f"## What training adds, {_length(path):,} tokens",
            "",
            f"{steps} steps of 2,048 tokens of Shakespeare, half of them recall documents of the"
            " split `train` (`training/lockstep.config.ts`): the same sequences in the same order.",
            "",
            f"`{one['command']}`, {one['machine']}, {one['date']}.",
            "",
            "| trained | seeds | needles | run in segments | log p | run in full | log p |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for name in [*(arm for arm in ARMS if arm in by_arm), *(set(by_arm) - set(ARMS))]:
            of = by_arm[name]
            cells = [ARMS.get(name, name), "" if name == "untrained" else str(seeds[name])]
            cells.append(str(sum(len(line["answers"]["full"]) for line in of.values())))
            for run in ("segmented", "full"):
                cells += _shares(of, run)
            out.append(f"| {' | '.join(cells)} |")
        out += ["", *_difference(by_arm)]
    return out


def _shares(of: dict[tuple[int, int], dict[str, Any]], run: str) -> list[str]:
    """Share recalled and mean log p; the interval is over documents, each the mean of its seeds."""
    mean = intervals.mean(list(_by_document(of, run).values()))
    every = [one["logp"] for line in of.values() for one in line["answers"][run]]
    return [_bounded(mean), f"{sum(every) / len(every):.2f}"]


def _by_document(of: dict[tuple[int, int], dict[str, Any]], run: str) -> dict[int, float]:
    shares: dict[int, list[float]] = defaultdict(list)
    for (_, document), line in of.items():
        answers = line["answers"][run]
        shares[document].append(sum(one["recalled"] for one in answers) / len(answers))
    return {document: sum(of) / len(of) for document, of in shares.items()}


#: What each difference compares with training in segments under the contract that serves.
CONTROLS = {
    "full": "full attention",
    "segmented K=0": "K = 0",
    "another policy": "another policy",
}


def _difference(by_arm: dict[str, dict[tuple[int, int], dict[str, Any]]]) -> list[str]:
    """Training in segments less each control, run in segments, paired by seed and document."""
    ours = by_arm.get("segmented", {})
    rows = []
    for arm, name in CONTROLS.items():
        control = by_arm.get(arm, {})
        pairs = sorted(set(ours) & set(control))
        if not pairs:
            continue
        first = _by_document({key: ours[key] for key in pairs}, "segmented")
        second = _by_document({key: control[key] for key in pairs}, "segmented")
        mean = intervals.mean([first[document] - second[document] for document in first])
        rows.append(f"| {name} | {len({seed for seed, _ in pairs})} | {_bounded(mean)} |")
    if not rows:
        return []
    told = "Recall after training in segments, less that after the same tokens with:"
    return [told, "", "| | seeds | difference, run in segments |", "| --- | --- | --- |", *rows, ""]


def perplexities() -> list[str]:
    """Perplexity of the trained models of ``training/adds.py``."""
    path = HERE / "raw" / "perplexity.json"
    found = json.loads(path.read_text("utf-8"))
    by: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for row in found["rows"]:
        by[row["trained"], row["run"]].append(row["perplexity"])
    lengths = list(found["rows"][0]["perplexity"])
    of = {
        key: {n: sum(one[n] for one in every) / len(every) for n in lengths}
        for key, every in by.items()
    }
    out = [
        "## Perplexity of the trained models",
        "",
        f"Those of the tables above, the mean of {len(by['full', 'full'])} seeds; in brackets the"
        " ratio to the model trained and run with full attention.",
        "",
        f"`{found['command']}` (a model trained with full attention gets its contract by"
        f" `lockstep attach`), {found['machine']}, {found['date']}.",
        "",
        f"| trained | run | {' | '.join(f'{int(n):,} tokens' for n in lengths)} |",
        f"| --- | --- |{' --- |' * len(lengths)}",
    ]
    for (trained, run), row in of.items():
        cells = [f"{row[n]:.2f} ({row[n] / of['full', 'full'][n]:.3f})" for n in lengths]
        how = "in segments" if run == "segmented" else "with full attention"
        out.append(f"| {ARMS[trained]} | {how} | {' | '.join(cells)} |")
    return [*out, ""]


def main() -> None:
    text = (
        "\n".join([HEAD, *grids(), *ruler(), *adds(), *perplexities(), *windows()]).rstrip() + "\n"
    )
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
