"""The scheduling matrix: whatever vLLM does with a batch, it computes what the trainer computes.

usage: python bench/vllm/matrix.py [--rows N] [--only I,J] [--work DIR]

Rows cover every pair of values of the axes (chunk budget, batch, preemption, prefix caching,
policy, sinks, recipe, architecture); some are run with other recipes too, and one row runs on two
tensor-parallel ranks. Written to bench/vllm/raw/matrix.json; `report.py` beside it makes the table.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [
    str(HERE),
    str(ROOT / "bench"),
    str(ROOT / "python"),
    str(ROOT / "test" / "python"),
    str(ROOT / "test" / "vllm"),
]

LATEST = "blocks, all carry"
AXES: dict[str, list[Any]] = {
    "budget": [37, 96, 512, 2048],
    "batch": [1, 7, 32],
    "preemption": ["none", "forced"],
    "caching": ["off", "on", "inside", "end"],
    "policy": ["fixed", "sentences", "sums", "every"],
    "sinks": [0, 4],
    "recipe": ["anchors", "topk", LATEST],
    "architecture": ["llama", "mistral", "qwen2", "qwen3"],
}
#: Options of a contract that each recipe is run with.
RECIPES: dict[str, dict[str, Any]] = {
    "anchors": {"recipe": "anchors"},
    "topk": {"recipe": "topk"},
    "topk, all carry": {"recipe": "topk", "carry_heads": "all"},
    "blocks": {"recipe": "blocks", "sizes": {"block": 4, "distance": 11, "window": 20}},
    LATEST: {
        "recipe": "blocks",
        "sizes": {"block": 4, "distance": 40, "window": 64},
        "carry_heads": "all",
    },
}
#: Rows by number that run once more with another recipe.
BESIDE = ((1, "topk, all carry"), (7, "blocks"))
#: min and max length of a segment, by policy: "every" has segments of one token.
LIMITS = {"fixed": (1, 48), "sentences": (4, 48), "sums": (3, 48), "every": (1, 24)}
LENGTHS = (700, 5, 64, 130, 33, 400, 257)
#: Who cannot grow any more is preempted: long answers, and no prompt that needs most of the room.
FORCED = (300, 5, 64, 130, 33, 280, 257)
ANSWER = {"none": 32, "forced": 160}
SHARED = 1600  # tokens of the prefix that the prompts of "inside" and "end" share
SHIFTS = 64  # places where it may begin, until a boundary lies where hits end
HIT = 64  # hits are multiples of this: of the block sizes of all head groups
LAYERS, KV_HEADS, LONG = 4, 4, "[1, 2]"


def allowed(row: dict[str, Any]) -> bool:
    # One request alone is never preempted.
    return not (row["batch"] == 1 and row["preemption"] == "forced")


def checkpoint(work: Path, row: dict[str, Any]) -> Path:
    """The row's checkpoint, made once."""
    import checkpoints

    model = work / row["architecture"]
    if not model.exists():
        checkpoints.write_model(model, row["architecture"], layers=LAYERS, kv_heads=KV_HEADS)
    name = "-".join(str(row[k]) for k in ("architecture", "policy", "sinks", "recipe"))
    name = name.replace(", ", "-").replace(" ", "-")
    least, most = LIMITS[row["policy"]]
    if not (work / name / "checkpoint").exists():
        checkpoints.attach(
            work / name,
            model,
            policy=row["policy"],
            least=least,
            most=most,
            sinks=row["sinks"],
            **RECIPES[row["recipe"]],
            long=LONG,
        )
    return work / name / "checkpoint"


def text_ids() -> list[int]:
    import make_tiny

    sample = ROOT / "python" / "lockstep" / "data" / "verify-sample.txt"
    return make_tiny.tokenizer().encode(sample.read_text("utf-8")).ids


def prompts(
    row: dict[str, Any], ids: list[int], folder: Path
) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of the row, and those that fill the prefix cache before them.

    A hit covers whole blocks of the shared prefix. It ends "inside" a segment or at its "end" as
    the row wants: the prefix is as long as a multiple of the block that is, or is not, a boundary.
    """
    draw = random.Random(row["batch"])
    first = FORCED if row["preemption"] == "forced" else LENGTHS
    lengths = [first[i] if i < 7 else draw.randrange(3, 300) for i in range(row["batch"])]
    # Not from what is shared: a repeated passage repeats its keys, and retrieval then has ties.
    starts = [draw.randrange(SHARED + SHIFTS, len(ids) - max(lengths)) for _ in lengths]
    own = [ids[s : s + n] for s, n in zip(starts, lengths, strict=True)]
    if row["caching"] not in ("inside", "end"):
        return own, []
    from lockstep.contract.planner import Planner
    from lockstep.contract.reader import read

    planner, at_end = Planner(read(folder)), row["caching"] == "end"
    for offset in range(SHIFTS):
        shared = ids[offset : offset + SHARED]
        cuts = set(planner.plan(shared))
        fitting = [n for n in range(3 * HIT, SHARED, HIT) if (n in cuts) == at_end]
        if fitting:
            break
    assert fitting, "expected prefixes that end as the row wants"
    chosen = [draw.choice(fitting) for _ in own]
    return [shared[:n] + tail[:200] for n, tail in zip(chosen, own, strict=True)], [shared]


def run(row: dict[str, Any], work: Path, ids: list[int]) -> dict[str, Any]:
    folder = checkpoint(work, row)
    wanted, warm = prompts(row, ids, folder)
    told = {
        **row,
        "checkpoint": str(folder),
        "answer": ANSWER[row["preemption"]],
        "prompts": wanted,
        "warm": warm,
    }
    with tempfile.TemporaryDirectory() as place:
        source, out = Path(place) / "row.json", Path(place) / "out.json"
        source.write_text(json.dumps(told))
        child = subprocess.Popen(
            [sys.executable, str(HERE / "cell.py"), str(source), str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(timeout=1800)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
        if child.returncode != 0:
            return {**row, "error": output[-2000:]}
        return {**row, **json.loads(out.read_text())}


def version() -> str:
    """vLLM's, under either of the names that its wheels have."""
    names = importlib.metadata.packages_distributions()["vllm"]
    return importlib.metadata.version(names[0])


def main() -> None:
    from cover import pairwise

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="only the first so many")
    parser.add_argument("--only", help="only these, by number")
    parser.add_argument("--work", type=Path, default=ROOT / ".lockstep" / "matrix")
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "matrix.json")
    options = parser.parse_args()
    rows = pairwise(AXES, allowed)
    rows += [{**rows[i], "recipe": recipe} for i, recipe in BESIDE]
    rows.append({**rows[0], "batch": 7, "caching": "off", "recipe": LATEST, "ranks": 2})
    numbers = [int(i) for i in options.only.split(",")] if options.only else range(len(rows))
    numbers = list(numbers)[: options.rows]
    from machine import header

    done: list[dict[str, Any]] = []
    ids = text_ids()
    for number in numbers:
        began = time.perf_counter()
        found = {"row": number, **run(rows[number], options.work, ids)}
        found["seconds"] = round(time.perf_counter() - began, 1)
        done.append(found)
        shown = {k: v for k, v in found.items() if k not in ("mismatches", "hits")}
        print(json.dumps(shown), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        document = {**header("python bench/vllm/matrix.py"), "vllm": version(), "rows": done}
        options.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
