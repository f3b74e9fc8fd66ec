"""The table of the scheduling matrix, from raw/matrix.json into RESULTS.md between its marks.

usage: python bench/vllm/report.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NAME = "matrix"
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


def main() -> None:
    document = json.loads((HERE / "raw" / f"{NAME}.json").read_text())
    results = HERE / "RESULTS.md"
    begin, end = f"<!-- {NAME} -->", f"<!-- /{NAME} -->"
    text = results.read_text() if results.exists() else "# Results: vLLM\n"
    block = f"{begin}\n{table(document)}\n{end}"
    if begin in text:
        text = text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    results.write_text(text)


if __name__ == "__main__":
    main()
