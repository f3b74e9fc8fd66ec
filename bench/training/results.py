"""Write bench/training/RESULTS.md from bench/training/raw/: figures come from nowhere else.

usage: python bench/training/results.py [--budget small|gpu]

Means over seeds with 95% t-intervals; ratios are paired, seed by seed on the same tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "llama")]

from cells import BUDGETS, MAIN, UNTRAINED, VARIANTS, Budget, Variant  # noqa: E402
from report import origin, table  # noqa: E402
from section import llama_section  # noqa: E402
from stats import interval  # noqa: E402

FACTORS = ("K", "M", "long layers", "recipe", "sinks", "boundaries")
#: The level that the main variant stands for, factor by factor.
LEVELS = {
    "segmented": {
        "K": "K = 1",
        "M": "M = S/4",
        "long layers": "6 long layers",
        "recipe": "anchors",
        "sinks": "4 sinks",
        "boundaries": "sentences",
    },
    "k0": {"K": "K = 0"},
    "k2": {"K": "K = 2"},
    "m0": {"M": "M = 0"},
    "m8": {"M": "M = S/8"},
    "layers0": {"long layers": "no long layer"},
    "layers2": {"long layers": "2 long layers"},
    "layers4": {"long layers": "4 long layers"},
    "topk": {"recipe": "topk"},
    "sinks0": {"sinks": "no sinks"},
    "sinks1": {"sinks": "1 sink"},
    "sinks16": {"sinks": "16 sinks"},
    "fixed": {"boundaries": "fixed"},
}


class Raw:
    """The cells of a budget that are there, by variant and seed (None: untrained)."""

    def __init__(self, folder: Path, budget: Budget):
        self.budget = budget
        self.cells: dict[tuple[str, int | None], dict] = {}
        for path in sorted(folder.glob("*.json")):
            cell = json.loads(path.read_text())
            self.cells[cell["settings"]["variant"], cell["settings"]["seed"]] = cell

    def seeds(self, variant: str) -> list[int]:
        return sorted(s for v, s in self.cells if v == variant and s is not None)

    def one(self, variant: str, seed: int | None, text: str, way: str, length: int):
        cell = self.cells.get((variant, seed))
        if cell is None:
            return None
        rows = cell["measured"]["texts"][text].get(way, {})
        return rows.get("perplexity", {}).get(str(length))

    def over_seeds(self, variant: str, text: str, way: str, length: int) -> list[float]:
        found = [self.one(variant, s, text, way, length) for s in self.seeds(variant)]
        return [value for value in found if value is not None]

    def ratios(self, variant: str, to: str, text: str, way: str, length: int) -> list[float]:
        """variant / to of every seed that both have."""
        out = []
        for seed in set(self.seeds(variant)) & set(self.seeds(to)):
            a = self.one(variant, seed, text, way, length)
            b = self.one(to, seed, text, way, length)
            if a is not None and b is not None:
                out.append(a / b)
        return out


def training_section(raw: Raw) -> str:
    lengths = raw.budget.lengths
    rows = []
    for label, variant, way in (
        ("untrained, full attention", "untrained-segmented", "full"),
        ("untrained, segmented", "untrained-segmented", "segmented"),
        ("trained with full attention, run full", "full", "full"),
        ("trained in segments, run full", "segmented", "full"),
        ("trained with full attention, run segmented", "full", "segmented"),
        ("trained in segments, run segmented", "segmented", "segmented"),
    ):
        if variant.startswith("untrained"):
            values = [raw.one(variant, None, "report", way, n) for n in lengths]
            cells = [f"{v:.2f}" if v is not None else "" for v in values]
            seeds = ""
        else:
            cells = [interval(raw.over_seeds(variant, "report", way, n)) for n in lengths]
            seeds = str(len(raw.seeds(variant)))
        if any(cells):
            rows.append([label, seeds, *cells])
    for label, way in (("run segmented", "segmented"), ("run full", "full")):
        ratio = [interval(raw.ratios("segmented", "full", "report", way, n), 4) for n in lengths]
        if any(ratio):
            both = len(set(raw.seeds("segmented")) & set(raw.seeds("full")))
            rows.append([f"in segments / with full attention, {label}", str(both), *ratio])
    head = ["", "seeds", *(f"{n:,} ({n // raw.budget.sequence}x)" for n in lengths)]
    return table(head, rows)


def levels(factor: str) -> list[Variant]:
    named = [v for v in VARIANTS if v.factor == factor]
    return [MAIN, *named]


def factor_section(raw: Raw, factor: str) -> str:
    lengths, rows = raw.budget.lengths, []
    for variant in levels(factor):
        if not raw.seeds(variant.name):
            continue
        base = f"untrained-{variant.name}" if factor != "K" else "untrained-segmented"
        before = raw.one(base, None, "report", "segmented", lengths[2])
        ratio = raw.ratios(variant.name, MAIN.name, "report", "segmented", lengths[2])
        rows.append(
            [
                LEVELS[variant.name][factor],
                str(len(raw.seeds(variant.name))),
                interval(raw.over_seeds(variant.name, "selection", "segmented", lengths[2])),
                "" if before is None else f"{before:.2f}",
                *(
                    interval(raw.over_seeds(variant.name, "report", "segmented", n))
                    for n in lengths
                ),
                "1" if variant is MAIN else interval(ratio, 4),
            ]
        )
    if len(rows) < 2:
        return ""
    head = ["", "seeds", "selection 4x", "untrained 4x", *(f"{n:,}" for n in lengths)]
    return table([*head, "ratio 4x"], rows)


def chosen(raw: Raw) -> str:
    """The levels in the order in which the selection text puts them, against the main variant."""
    length = raw.budget.lengths[2]
    found = [
        (statistics.mean(values), [f"`{variant.name}`", interval(values, 3), str(len(values))])
        for variant in VARIANTS
        if variant.factor not in (None, "training")
        and (values := raw.ratios(variant.name, MAIN.name, "selection", "segmented", length))
    ]
    return (
        "By the selection text (trained in segments, run segmented, "
        f"{length:,} tokens), over `{MAIN.name}` with the same seed, best first:\n\n"
        + table(
            ["", "perplexity over that of the main variant", "seeds"],
            [row for _, row in sorted(found)],
        )
    )


def speed_section() -> str:
    path = HERE.parent / "raw" / "step.json"
    if not path.is_file():
        return ""
    raw = json.loads(path.read_text())
    rows = []
    for name, case in raw["cases"].items():
        label = {"full": "full attention", "authors": "the authors' scheme (K = 1)"}.get(
            name, f"segmented, K = {name[1:]}"
        )
        rows.append(
            [
                label,
                f"{raw['tokens'] / case['seconds']:.0f}",
                f"{case['seconds']:.1f} s",
                f"{case['cpuSeconds']:.1f} s",
                f"{case['peakExtraBytes'] / 2**20:,.0f} MiB",
            ]
        )
    head = ["forward and backward", "tokens/s", "wall", "CPU time", "peak beyond weights"]
    times = min(len(case["all"]) for case in raw["cases"].values())
    each = f"Medians of {times} runs" if times > 1 else "One run of each"
    return f"{origin(raw)} {raw['tokens']:,} tokens. {each}.\n\n{table(head, rows)}"


def heads_section(budget: Budget) -> str:
    if not (HERE / "raw" / f"heads-{budget.name}").is_dir():
        return ""
    command = [sys.executable, str(HERE / "heads.py"), "--budget", budget.name, "--table"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def kills_section() -> str:
    path = HERE / "raw" / "kills.jsonl"
    if not path.is_file():
        return ""
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    kills = [line for line in lines if "killed" in line]
    cases = sorted({line["case"] for line in kills})
    rows = [
        [
            case,
            str(len(own := [line for line in kills if line["case"] == case])),
            str(sum(not line["same"] for line in own)),
            str(sum(not line["whole"] for line in own)),
            str(max(line["lost"] for line in own)),
        ]
        for case in cases
    ]
    differing = sum(not line["same"] for line in kills)
    runs = [
        f"- `{line['command']}`, {line['machine']}, commit {line['commit']}, {line['date']}"
        for line in lines
        if "command" in line
    ]
    head = ["case", "kills", "differing hashes", "a checkpoint not whole", "most steps done again"]
    return (
        f"raw/kills.jsonl: {len(kills):,} kills, {differing} differing hashes, in the runs\n\n"
        + "\n".join(runs)
        + "\n\n`keep 2` is killed at every call, the others from the swap of the last checkpoint "
        "on and at every event.\n\n" + table(head, rows)
    )


def document(budget: Budget) -> str:
    raw = Raw(HERE / "raw" / budget.name, budget)
    known = {v.name for v in (*VARIANTS, *UNTRAINED)}
    there = [cell for (name, _), cell in raw.cells.items() if name in known]
    parts = [
        "# Training: results",
        "Written by `bench/training/results.py` from `bench/training/raw/`. Perplexity of the "
        "first n tokens; means over seeds with 95% t-intervals where there are two or more. A "
        "figure of one seed has no interval and proves little.",
    ]
    if there:
        parts += [
            "## What segmented training adds",
            f"{origin(there[0])} SmolLM2-135M, budget `{budget.name}`: {budget.steps} steps of "
            f"{budget.accumulate} x {budget.sequence:,} tokens of Shakespeare, S = "
            f"{budget.segment}; reported on Paradise Lost from character 60,000, chosen on "
            "Coriolanus, which no cell trains on.",
            training_section(raw),
        ]
        sections = [(f, s) for f in FACTORS if (s := factor_section(raw, f))]
        if sections:
            parts.append("## One factor at a time")
            parts.append(chosen(raw))
        for factor, text in sections:
            parts += [f"### {factor[0].upper()}{factor[1:]}", text]
        missing = [v.name for v in VARIANTS if not raw.seeds(v.name)]
        if missing:
            parts.append(f"Not run yet: {', '.join(f'`{name}`' for name in missing)}.")
    for title, text in (
        ("Choosing heads", heads_section(budget)),
        ("A training step", speed_section()),
        ("Prefill at Llama-2-7B's shape", llama_section(HERE.parent / "raw" / "llama.json")),
        ("Kills", kills_section()),
    ):
        if text:
            parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", choices=list(BUDGETS), default="small")
    args = parser.parse_args()
    (HERE / "RESULTS.md").write_text(document(BUDGETS[args.budget]))


if __name__ == "__main__":
    main()
