"""The tables of raw/*.json, each into RESULTS.md between its marks.

usage: python bench/vllm/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COLUMNS = (
    "row",
    "budget",
    "batch",
    "preempted",
    "prefix cache (hits)",
    "policy",
    "A",
    "recipe",
    "model",
    "ranks",
    "tokens",
    "boundaries",
    "max dlogp, prompt",
    "max dlogp, decode",
    "choices that differ",
    "retrievals",
    "otherwise (largest gap)",
)


def line(row: dict[str, Any]) -> str:
    hits = [hit["at"] for hit in row["hits"]]
    cached = row["caching"]
    if hits:
        cached += f" ({hits.count('inside')} inside, {hits.count('end')} at an end)"
    others = row["mismatches"]
    gap = f"{len(others)} ({max(one['gap'] for one in others):.1e})" if others else "0"
    cells = [
        row["row"],
        row["budget"],
        row["batch"],
        f"{row['preemptions']} ({row['resumed']} back from the cache)"
        if row.get("resumed")
        else row["preemptions"],
        cached,
        row["policy"],
        row["sinks"],
        row["recipe"],
        row["architecture"],
        row.get("ranks", 1),
        row["tokens"],
        row["boundaries"],
        f"{row['prompt']:.1e}" if row["caching"] == "off" else "",
        f"{row['decode']:.1e}",
        f"{row['flips']} ({row['near']} near)",
        row["retrievals"],
        gap,
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def table(document: dict[str, Any]) -> str:
    rows = document["rows"]
    worst = max(max(row["prompt"], row["decode"]) for row in rows)
    text = [
        "## The scheduling matrix",
        "",
        f"`{document['command']}`, {document['machine']}, {document['date']}, commit "
        f"{document['commit']}, vLLM {document['vllm']}, float32. Random models of 4 layers with "
        "enlarged weights; real text; every row a fresh engine. The operator (`lockstep.load`) "
        "runs on the very tokens that vLLM was given and chose. Segments are at most 48 tokens "
        "(`every`: 24, one token at least), M = R = 16. Rows cover every pair of values.",
        "",
        f"Largest |d log p| of all rows: **{worst:.1e}**. Choices that differ where the two best "
        f"tokens are further apart than 1e-3: **{sum(row['flips'] for row in rows)}**. Prefill "
        "chunks that end inside a segment which a step could hold: "
        f"**{sum(row['cut'] for row in rows)}** of {sum(row['chunks'] for row in rows)} chunks.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + " --- |" * len(COLUMNS),
        *map(line, rows),
        "",
        "*otherwise*: boundaries where vLLM retrieved other rows than the operator, and the "
        "largest score gap that decided one (`lockstep.retrieval.deciding_gap`; 0: an exact tie). "
        "The operator goes on with vLLM's rows. *near*: tokens whose two best are closer than "
        "1e-3.",
    ]
    return "\n".join(text)


def speed(document: dict[str, Any]) -> str:
    cases = {(row["prompt"], row["batch"], row["mode"]): row for row in document["rows"]}
    lines = []
    for prompt, batch in sorted({(row["prompt"], row["batch"]) for row in document["rows"]}):
        own, full = (cases.get((prompt, batch, mode)) for mode in ("segmented", "full"))
        if own is None or full is None:
            continue
        cells = [f"{prompt:,}", f"{batch}"]
        for key, form, unit in (
            ("prefillSeconds", ".1f", 1),
            ("prefillCpuSeconds", ".1f", 1),
            ("decodeMs", ".0f", 1),
            ("kvBytes", ",.0f", 2**20),
            ("kvPeakBytes", ",.0f", 2**20),
        ):
            cells.append(f"{own[key] / unit:{form}} / {full[key] / unit:{form}}")
            cells.append(f"{own[key] / full[key]:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    alone = sorted(prompt for prompt, batch, mode in cases if batch == 1 and mode == "full")
    least, most = alone[0], alone[-1]
    short, long = (cases[(n, 1, "full")]["prefillCpuSeconds"] / n for n in (least, most))
    head = ["prompt", "batch"]
    for name in ("prefill s", "CPU s", "decode ms a step", "KV MiB after prefill", "peak KV MiB"):
        head += [name, "ratio"]
    return "\n".join(
        [
            f"## {document.get('title', 'Against stock vLLM with full attention')}",
            "",
            f"`{document['command']}`, {document['machine']}, {document['date']}, commit "
            f"{document['commit']}. SmolLM2-135M, float32, eager, no prefix cache, "
            f"{document['budget']} tokens a step; segmented / full.",
            "",
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
            *lines,
            "",
            f"What segments save is attention over long distances. At {least:,} tokens, where "
            f"there is next to none, stock vLLM takes {1e3 * short:.1f} CPU s a 1,000 tokens: "
            f"{short / long:.2f} of its {1e3 * long:.1f} at {most:,}, about the least that any "
            "window could come to there; the rest is what a segment sees (its own tokens, carry or "
            "retrieved rows) and its bookkeeping.",
        ]
    )


def capacity(document: dict[str, Any]) -> str:
    own, full = (next(r for r in document["rows"] if r["mode"] == m) for m in ("segmented", "full"))
    text = [
        f"## How many requests of {document['prompt']:,} tokens fit in {document['space']:g} GiB",
        "",
        f"`{document['command']}`, {document['machine']}, {document['date']}, commit "
        f"{document['commit']}. SmolLM2-135M, float32, up to {document['most']} tried.",
        "",
        f"Segmented: **{own['together']}** decode together, holding {own['kvBytes'] / 2**20:,.0f} "
        "MiB. "
        + f"Stock vLLM with full attention: **{full['together']}**"
        + (f"; it refuses to start: {full['refused']}" if full.get("refused") else "."),
    ]
    return "\n".join(text)


def relay(document: dict[str, Any]) -> str:
    lines = [
        "| streams | rounds | first token p50 / p99, direct | through the relay | added p50 / p99 "
        "| chunk p50 / p99, direct | through the relay |",
        "|" + " --- |" * 7,
    ]
    for row in document["rows"]:
        direct, own = row["direct"], row["relay"]
        lines.append(
            f"| {row['streams']} | {row['rounds']} "
            f"| {direct['firstP50']:.0f} / {direct['firstP99']:.0f} "
            f"| {own['firstP50']:.0f} / {own['firstP99']:.0f} "
            f"| {row['addedFirstP50']:.0f} / {row['addedFirstP99']:.0f} "
            f"| {direct['chunkP50']:.1f} / {direct['chunkP99']:.1f} "
            f"| {own['chunkP50']:.1f} / {own['chunkP99']:.1f} |"
        )
    return "\n".join(
        [
            "## What the relay adds",
            "",
            f"`{document['command']}`, {document['machine']}, {document['date']}, commit "
            f"{document['commit']}. Milliseconds; rounds are asked "
            f"both ways in turn, prompts of {document['promptTokens']} tokens, "
            f"{document['tokens']} tokens an answer, a chunk a token. vLLM, relay and client share "
            "the two cores.",
            "",
            *lines,
        ]
    )


def kernel(document: dict[str, Any]) -> str:
    lines = [
        f"| {row['case']} | {row['gathered']:.1f} | {row['paged']:.1f} | {row['filled']:.1f} |"
        for row in document["rows"]
    ]
    return "\n".join(
        [
            "## vLLM's paged kernel on segments",
            "",
            f"`{document['command']}`, {document['machine']}, {document['date']}, commit "
            f"{document['commit']}. One layer of SmolLM2's heads, float32; milliseconds of CPU "
            "time. *gathered*: the product's path, rows of any alignment. *paged*: vLLM's kernel "
            "for CPUs, whose blocks hold nothing but what the segment sees (no sinks, nothing "
            "retrieved, all cuts on blocks). *filled*: the same, writing those blocks first, as "
            "any other contract would have to.",
            "",
            "| case | gathered | paged | paged, filled |",
            "| --- | --- | --- | --- |",
            *lines,
        ]
    )


SECTIONS = {
    "matrix": table,
    "speed": speed,
    "speed-long": speed,
    "speed-anchors": speed,
    "speed-other": speed,
    "capacity": capacity,
    "relay": relay,
    "kernel": kernel,
}


def main() -> None:
    results = HERE / "RESULTS.md"
    text = results.read_text() if results.exists() else "# Results: vLLM\n"
    for name, render in SECTIONS.items():
        raw = HERE / "raw" / f"{name}.json"
        if not raw.exists():
            continue
        document = json.loads(raw.read_text())
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        parts = [render(document), *([document["note"]] if document.get("note") else [])]
        block = f"{begin}\n" + "\n\n".join(parts) + f"\n{end}"
        if begin in text:
            text = text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
        else:
            text = f"{text.rstrip()}\n\n{block}\n"
    results.write_text(text)


if __name__ == "__main__":
    main()
