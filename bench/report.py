"""Write the tables of bench/raw/*.json into bench/RESULTS.md, each between its marks.

usage: python bench/report.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from stats import interval

HERE = Path(__file__).resolve().parent
RAW, RESULTS = HERE / "raw", HERE / "RESULTS.md"
DATE = re.compile(r"\b20\d\d-\d\d-\d\d\b")


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
        head = ["turn", "prompt", "cached", f"{what} with cache", "without"]
        last, ratio = settings["turns"], row["ratio"]
        parts += [
            f"**{row['engine']}**",
            table(head, lines),
            f"Turn {last} / turn 1: {ratio['with']:.2f} with cache (target {settings['target']}), "
            f"{ratio['without']:.2f} without.",
        ]
    return "\n\n".join(parts)


def generate(raw: dict) -> str:
    settings = raw["settings"]
    rows = []
    for row in raw["rows"]:
        cells = [f"{row['tokens']:,}"]
        for key, show in (
            ("prefillSeconds", lambda x: f"{x:.2f} s"),
            ("prefillCpuSeconds", lambda x: f"{x:.2f} s"),
            ("decodeSeconds", lambda x: f"{1000 * x:.1f} ms"),
            ("decodeCpuSeconds", lambda x: f"{1000 * x:.1f} ms"),
        ):
            both = f"{show(row['generate'][key])} / {show(row['load'][key])}"
            cells.append(f"{both} = {row['ratio'][key]:.2f}")
        rows.append(cells)
    head = ["prompt", "prefill", "CPU time", "decode, ms/token", "CPU time"]
    return (
        f"{origin(raw)} {raw['threads']} thread(s); {settings['new']} new tokens; medians of "
        f"{settings['rounds']} rounds on a machine with a load of {raw['load']:.1f}; the target is "
        f"{settings['target']}. Each cell: `generate()` / `lockstep.load`.\n\n{table(head, rows)}"
    )


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
    found = {(row["policy"], row["runtime"]): row["tokensPerSecond"] for row in raw["rows"]}
    policies = dict.fromkeys(policy for policy, _ in found)
    rows = [
        [policy, *(f"{found[policy, runtime]:,.0f}" for runtime in ("node", "quickjs"))]
        for policy in policies
    ]
    seconds = raw["stream"]["seconds"]
    return (
        f"\n\nBefore policies ran in one engine ({raw['date']}, the same machine, commit 3453a06), "
        f"tokens/s; the stream took {seconds:.1f} s:\n\n"
        f"{table(['policy', 'node', 'quickjs'], rows)}"
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
        [label, *(f"{before[key]['perplexity'][n]:.2f}" for n in lengths)]
        for key, label in (
            ("full", "base model, full attention"),
            ("segmentedBefore", "base model, segmented"),
        )
    ]
    for key, label in kinds.items():
        columns = ([row[key]["perplexity"][n] for row in seeds] for n in lengths)
        rows.append([label, *(interval(column) for column in columns)])
    ratios = [interval(raw["summary"][n]["ratios"], 3) for n in lengths]
    rows.append(["segmented over full attention, both trained", *ratios])
    settings = raw["settings"]
    seen = ", ".join(f"{row['steps']} steps ({row['tokens']:,} tokens)" for row in seeds)
    head = ["model and execution", *(f"{int(n):,}" for n in lengths)]
    return (
        f"{origin(raw)} Config `{settings['config']}`, text `{Path(settings['text']).name}` from "
        f"character {settings['skip']:,}; {len(seeds)} seeds of {seen}. Means, 95% intervals.\n\n"
        f"{table(head, rows)}"
    )


def quickstart(raw: dict) -> str:
    columns = {
        "full": "full attention",
        "noSinks": "in segments, no sinks",
        "segmentedBefore": "in segments",
        "segmentedAfter": "in segments, trained",
    }
    rows = [
        [f"{what}, {int(length):,} tokens", *(f"{row[c]:.2f}" if c in row else "" for c in columns)]
        for what, key in (("perplexity", "perplexity"), ("needles recalled", "recall"))
        for length, row in raw[key].items()
    ]
    return f"{origin(raw)}\n\n{table(['', *columns.values()], rows)}"


def positions(raw: dict) -> str:
    return (
        f"{origin(raw)}\n\n![Perplexity by position over 32,768 tokens]"
        "(raw/positions-positions.png)"
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


def peers(raw: dict) -> str:
    found = raw["perplexity"]
    llama = [{**row, "engine": "llama.cpp"} for row in raw["llama"]["rows"]]
    named = {
        "llama.cpp": ("llama.cpp, Q4_1, full attention", raw["llama"]["perplexity"]),
        "onnx:int8": ("onnx int8, in segments", found["int8"]),
        "onnx:fp32": ("onnx fp32, in segments", found["fp32"]),
    }
    rows = [
        [
            named[row["engine"]][0],
            f"{row['context']:,}",
            f"{row['prefillPerSecond']:.0f}",
            f"{row['decodeMs']:.1f}",
            mib(row["held"]),
            f"{named[row['engine']][1][str(row['context'])]:.2f}",
        ]
        for row in [*llama, *raw["rows"]]
    ]
    full = ", ".join(f"{value:.2f} at {int(mark):,}" for mark, value in found["full"].items())
    head = ["", "tokens", "prefill, tokens/s", "decode, ms a token", "held", "perplexity"]
    return (
        f"{origin(raw)} node-llama-cpp {raw['llama']['version']}, {raw['machine']['threads']} "
        f"thread.\n\n{table(head, rows)}\n\nPyTorch in float32 with full attention comes to "
        f"{full}."
    )


SECTIONS = {
    "quickstart": quickstart,
    "recall-1500": recall,
    "turns": turns,
    "generate": generate,
    "planner": planner,
    "control": control,
    "positions": positions,
    "prefill": prefill,
    "engines": engines,
    "peers": peers,
}


def newest_first(text: str) -> str:
    """The sections by their newest date; those of one date stay in their order."""
    head, *sections = re.split(r"^(?=## )", text.rstrip("\n") + "\n\n", flags=re.MULTILINE)
    dated = sorted(sections, key=lambda section: max(DATE.findall(section)), reverse=True)
    return "".join([head, *dated]).rstrip("\n") + "\n"


def main() -> None:
    text = RESULTS.read_text("utf-8")
    for name, render in SECTIONS.items():
        if not (RAW / f"{name}.json").exists():
            print(f"{name}: not measured yet", file=sys.stderr)
            continue
        raw = json.loads((RAW / f"{name}.json").read_text("utf-8"))
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        parts = [render(raw), *([raw["note"]] if raw.get("note") else [])]
        block = "\n\n".join(parts)
        text = text[: text.index(begin)] + f"{begin}{block}\n" + text[text.index(end) :]
    RESULTS.write_text(newest_first(text), "utf-8")
    print("bench/RESULTS.md", file=sys.stderr)


if __name__ == "__main__":
    main()
