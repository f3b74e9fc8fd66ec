"""Write bench/RESULTS.md from bench/raw/*.json: figures come from nowhere else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

RAW = Path(__file__).resolve().parent / "raw"


def read(name: str) -> dict | None:
    path = RAW / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(head: list[str], rows: list[list[str]]) -> str:
    line = "| " + " | ".join(head) + " |"
    rule = "|" + " --- |" * len(head)
    return "\n".join([line, rule, *("| " + " | ".join(row) + " |" for row in rows)])


def origin(raw: dict) -> str:
    machine = raw["machine"]
    if isinstance(machine, dict):
        machine = f"{machine['cpu']}, {machine['cores']} cores"
    return f"`{raw['command']}`, {machine}, {raw['date']}."


def mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"


def prefill(raw: dict) -> str:
    cases = {(row["tokens"], row["mode"]): row for row in raw["rows"]}
    rows = []
    for count in sorted({row["tokens"] for row in raw["rows"]}):
        own, full = cases[count, "segmented"], cases.get((count, "full"))
        cells = [f"{count:,}"]
        for key, show in (
            ("seconds", lambda x: f"{x:.1f} s"),
            ("cpuSeconds", lambda x: f"{x:.1f} s"),
            ("peakExtraBytes", mib),
        ):
            cells.append(f"{show(own[key])} / {show(full[key]) if full else 'not run'}")
            cells.append(f"{own[key] / full[key]:.2f}" if full else "")
        rows.append(cells)
    head = ["tokens", "wall: segmented / full", "ratio", "CPU time", "ratio", "peak extra", "ratio"]
    return f"{origin(raw)} {raw['threads']} threads.\n\n{table(head, rows)}"


def step(raw: dict) -> str:
    rows = [
        [name, f"{case['seconds']:.1f} s", mib(case["peakExtraBytes"])]
        for name, case in raw["cases"].items()
    ]
    ratios, memory = raw["ratios"], raw["memory"]
    return (
        f"{origin(raw)} {raw['tokens']:,} tokens, {raw['threads']} threads.\n\n"
        f"{table(['case', 'forward and backward', 'peak extra'], rows)}\n\n"
        f"K=1 takes {ratios['K1/K0']:.2f} of K=0 and {ratios['K1/full']:.2f} of full-attention "
        f"training. Peak at 64 segments of {memory['segmentTokens']} tokens over that at 8, the "
        f"pool aside: {memory['ratio']:.3f}."
    )


def engines(raw: dict) -> str:
    rows = [
        [
            row["engine"],
            f"{row['context']:,}",
            f"{row['prefillPerSecond']:.0f}",
            f"{row['decodeMs']:.0f}",
            mib(row["held"]),
            mib(row["fullAttention"]),
        ]
        for row in raw["rows"]
    ]
    head = ["engine", "context", "prefill tokens/s", "decode ms/token", "held", "full would hold"]
    return f"{origin(raw)} {raw['machine']['threads']} thread(s).\n\n{table(head, rows)}"


def turns(raw: dict) -> str:
    settings = raw["settings"]
    parts = [
        f"{origin(raw)} {raw['machine']['threads']} thread(s); each turn brings "
        f"{settings['words']} words and gets {settings['answer']} tokens; medians of "
        f"{settings['rounds']} chats on a machine with a load of {raw['load']:.1f}."
    ]
    for row in raw["rows"]:
        lines = [
            [
                str(own["turn"]),
                f"{own['promptTokens']:,}",
                f"{own['cachedTokens']:,}",
                f"{own[row['measured']]:,} ms",
                f"{none[row['measured']]:,} ms",
            ]
            for own, none in zip(row["with"], row["without"], strict=True)
        ]
        what = "processor time" if row["measured"] == "cpuMilliseconds" else "time"
        head = ["turn", "prompt", "remembered", f"{what} with memory", "without"]
        last, ratio = settings["turns"], row["ratio"]
        parts += [
            f"**{row['engine']}**",
            table(head, lines),
            f"Turn {last} / turn 1: {ratio['with']:.2f} with memory (target {settings['target']}), "
            f"{ratio['without']:.2f} without.",
        ]
    return "\n\n".join(parts)


def planner(raw: dict) -> str:
    rows = [
        [
            row["policy"],
            row["runtime"],
            f"{row['tokensPerSecond']:,.0f}",
            f"{row['usPerSinglePush']:.1f}",
            f"{row['msPerBatch']:.2f}",
        ]
        for row in raw["rows"]
    ]
    head = ["policy", "runtime", "tokens/s", "us a single push", "ms for 100 sequences"]
    stream = raw["stream"]
    return (
        f"{origin({'command': 'npm run bench -- planner', **raw})}\n\n{table(head, rows)}\n\n"
        f"A stream of {stream['tokens']:,} tokens: {stream['seconds']:.1f} s, "
        f"{stream['grownMiB']:.1f} MiB more.{before_one_engine()}"
    )


def before_one_engine() -> str:
    """The same bench on the same machine with the engines of before: V8 in Node, PyPI's quickjs-ng
    in Python (commit 3453a06)."""
    raw = json.loads((RAW / "planner-before.json").read_text("utf-8"))
    speeds = ", ".join(
        f"{row['policy']} {row['runtime']} {row['tokensPerSecond']:,.0f}" for row in raw["rows"]
    )
    seconds = raw["stream"]["seconds"]
    return (
        f"\n\nBefore policies ran in one engine ({raw['date']}, the same machine, commit 3453a06), "
        f"tokens/s: {speeds}; the stream {seconds:.1f} s."
    )


def control(raw: dict) -> str:
    before, seeds = raw["before"], raw["seeds"]
    lengths = list(raw["summary"])
    kinds = {
        "fullAfter": "trained with full attention, run full",
        "segmentedAfter": "trained in segments, run in segments",
        "fullTrainedSegmented": "trained with full attention, run in segments",
    }
    rows = [
        [label, "", *(f"{before[key]['perplexity'][n]:.2f}" for n in lengths)]
        for key, label in (
            ("full", "base model, full attention"),
            ("segmentedBefore", "base model, segmented"),
        )
    ]
    for key, label in kinds.items():
        rows += [
            [label, f"{row['seed']}", *(f"{row[key]['perplexity'][n]:.2f}" for n in lengths)]
            for row in seeds
        ]
    ratios = [
        [
            "segmentedAfter / fullAfter",
            f"{row['seed']}",
            *(f"{raw['summary'][n]['ratios'][i]:.3f}" for n in lengths),
        ]
        for i, row in enumerate(seeds)
    ]
    settings = raw["settings"]
    seen = ", ".join(f"{row['steps']} steps ({row['tokens']:,} tokens)" for row in seeds)
    head = ["model and execution", "seed", *(f"{int(n):,}" for n in lengths)]
    return (
        f"{origin(raw)} Config `{settings['config']}`, text `{Path(settings['text']).name}` from "
        f"character {settings['skip']:,}; {seen} for each training of the seeds.\n\n"
        f"{table(head, rows + ratios)}"
    )


def recall(raw: dict) -> str:
    settings, arms = raw["settings"], raw["means"]
    rows = [
        [
            name,
            f"{found['recalled']:.2f}",
            f"{found['logp']:.2f}",
            f"{found['held']:.2f}" if "held" in found else "",
        ]
        for name, found in arms.items()
    ]
    return (
        f"{origin(raw)} {settings['checkpoint']}, untrained; {settings['samples']} samples of "
        f"{settings['tokens']:,} tokens of `{settings['text']}`; {settings['heads']} of 90 KV "
        f"heads long, R = {settings['size']}, M = {settings['carry']}, S = 512, a cut after the "
        f"question.\n\n{table(['', 'recalled', 'log p of the digits', 'heads that hold it'], rows)}"
    )


SECTIONS = [
    ("recall-1500", "A needle in a text: what segmented execution recalls", recall),
    ("control", "Honest control: the same tokens trained with full attention", control),
    ("control-all-long", "The same, every head of layers 1 to 29 retrieving 512 rows", control),
    ("prefill", "Prefill: segmented against stock full attention", prefill),
    ("step", "Training step", step),
    ("engines", "Engines", engines),
    ("turns", "A chat's turns: time to the first token", turns),
    ("planner", "Planner", planner),
]


def main() -> None:
    parts = [
        "# Results",
        "",
        "Written by `bench/report.py` from `bench/raw/`. Ratios are within one run.",
    ]
    for name, title, render in SECTIONS:
        raw = read(name)
        if raw is None:
            continue
        parts += ["", f"## {title}", "", render(raw)]
        if raw.get("note"):
            parts += ["", raw["note"]]
    positions = RAW / "positions-positions.png"
    if positions.exists():
        parts += [
            "",
            "## Perplexity by position",
            "",
            f"{origin(read('positions') or {})}",
            "",
            "![Perplexity by position over 32,768 tokens](raw/positions-positions.png)",
        ]
    (RAW.parent / "RESULTS.md").write_text("\n".join(parts) + "\n")
    print("bench/RESULTS.md", file=sys.stderr)


if __name__ == "__main__":
    main()
