"""`generate()` of transformers on a segmented checkpoint, against `lockstep.load` stepped by hand.

usage: python bench/transformers_generate.py [--checkpoint DIR] [--tokens 512,4096] [--new 64]
           [--rounds 5] [--threads 1] [--text FILE] [--json FILE]

Both run greedily in one process with the same weights, take turns, and must write the same tokens.
Prefill is the time to the first new token, decode the time of each token after it; medians over the
rounds. CPU time stands beside the wall clock: it hardly changes when something else runs as well.
Only ratios within one run mean anything; the target is 1.1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

import lockstep  # noqa: E402
import lockstep.transformers  # noqa: E402
import torch  # noqa: E402
from machine import header, write_raw  # noqa: E402
from prefill import token_ids  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

TARGET = 1.1
#: Given a prompt, how many tokens to write, and whom to tell of each.
Run = Callable[[list[int], int, Callable[[int], None]], None]


def by_hand(folder: Path) -> Run:
    """The shortest loop over `lockstep.load`."""
    model = lockstep.load(folder)

    def run(prompt: list[int], count: int, tell: Callable[[int], None]) -> None:
        state, segmenter = model.state(), model.planner.segmenter()
        ids = prompt
        for _ in range(count):
            start, cuts = state.position, segmenter.push_many(ids)
            end = start + len(ids)
            for edge in [*(cut for cut in cuts if cut < end), end]:
                piece = ids[state.position - start : edge - start]
                last = model.step(state, piece, rows="last")
                if edge in cuts:
                    model.close(state)
            ids = [int(last[-1].argmax())]
            tell(ids[0])
        segmenter.close()

    return run


class Told:
    """transformers' streamer: the first that it is given is the prompt."""

    def __init__(self, tell: Callable[[int], None]):
        self._tell = tell
        self._begun = False

    def put(self, ids: torch.Tensor) -> None:
        if self._begun:
            self._tell(int(ids))
        self._begun = True

    def end(self) -> None:
        pass


def by_transformers(folder: Path) -> Run:
    model = AutoModelForCausalLM.from_pretrained(folder)

    def run(prompt: list[int], count: int, tell: Callable[[int], None]) -> None:
        ids_BL = torch.tensor([prompt])
        model.generate(
            ids_BL,
            attention_mask=torch.ones_like(ids_BL),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            streamer=Told(tell),
        )

    return run


def measured(run: Run, prompt: list[int], count: int) -> tuple[list[int], dict[str, float]]:
    """The tokens of one run; seconds of wall clock and CPU for prefill and each token after it."""
    tokens: list[int] = []
    wall, cpu = [time.perf_counter()], [time.process_time()]

    def tell(token: int) -> None:
        tokens.append(token)
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    with torch.inference_mode():
        run(prompt, count, tell)
    if len(tokens) != count:
        raise RuntimeError(f"expected {count} new tokens, got {len(tokens)}")
    times = {}
    for name, at in (("Seconds", wall), ("CpuSeconds", cpu)):
        times[f"prefill{name}"] = at[1] - at[0]
        times[f"decode{name}"] = (at[-1] - at[1]) / (count - 1)
    return tokens, times


def compared(runs: dict[str, Run], prompt: list[int], count: int, rounds: int) -> dict[str, Any]:
    """Medians of both over the rounds, and their ratios."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for turn in range(rounds):
        # Who begins alternates.
        order = list(runs) if turn % 2 == 0 else list(reversed(runs))
        wrote = {}
        for name in order:
            wrote[name], times = measured(runs[name], prompt, count)
            found[name].append(times)
        if wrote["load"] != wrote["generate"]:
            raise RuntimeError("expected the same tokens from both, got others")
    keys = found["load"][0]
    row: dict[str, Any] = {"tokens": len(prompt)}
    for name, times in found.items():
        row[name] = {key: statistics.median(one[key] for one in times) for key in keys}
    row["ratio"] = {key: row["generate"][key] / row["load"][key] for key in keys}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work = HERE.parent / ".lockstep"
    parser.add_argument("--checkpoint", type=Path, default=work / "runs/quickstart")
    parser.add_argument("--text", type=Path, default=work / "texts/milton/paradiselost.txt")
    parser.add_argument("--tokens", default="512,4096")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write there, not to bench/raw")
    args = parser.parse_args()
    if args.new < 2:
        parser.error("--new: expected 2 or more, for the first token is the prefill's")
    torch.set_num_threads(args.threads)
    runs = {"load": by_hand(args.checkpoint), "generate": by_transformers(args.checkpoint)}
    for run in runs.values():
        measured(run, token_ids(args.checkpoint, args.text, 64), 2)
    rows = []
    for length in [int(n) for n in args.tokens.split(",")]:
        prompt = token_ids(args.checkpoint, args.text, length)
        rows.append(compared(runs, prompt, args.new, args.rounds))
        print(json.dumps(rows[-1]["ratio"]), file=sys.stderr, flush=True)
    result = {
        **header("npm run bench -- generate"),
        "threads": args.threads,
        "load": os.getloadavg()[0],
        "settings": {"new": args.new, "rounds": args.rounds, "target": TARGET},
        "rows": rows,
    }
    if args.json is None:
        write_raw("generate", result)
    else:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
