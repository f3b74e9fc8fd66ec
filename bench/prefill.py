"""Prefill of SmolLM2: segmented execution against stock full attention, time and peak extra memory.

usage: python bench/prefill.py [--checkpoint DIR] [--tokens 4096,8192,16384,32768] [--full 4096,…]

Every case is a process of its own, so that a peak belongs to one case: the resident set after the
weights are loaded (and one short warm-up) is subtracted from the highest one seen during the run.
Full attention is transformers' own SDPA path filling its own KV cache; segmented execution keeps
what a server keeps (sinks, carry, pool, retrieved rows). Neither computes logits but the last row.
CPU seconds stand beside the wall clock: they hardly change when something else runs as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def token_ids(checkpoint: Path, text: Path, count: int) -> list[int]:
    from lockstep.tokenizer.file import load_tokenizer

    tokenizer = load_tokenizer(checkpoint)
    ids: list[int] = tokenizer.encode(text.read_text(), add_special_tokens=False).ids
    while len(ids) < count:
        ids = ids + ids
    return ids[:count]


def run_case(mode: str, checkpoint: Path, text: Path, count: int, threads: int) -> dict:
    import lockstep
    import torch

    torch.set_num_threads(threads)
    model = lockstep.load(checkpoint)
    ids = token_ids(checkpoint, text, count)
    module = model.module
    if mode == "full":
        module.config._attn_implementation = "sdpa"

        def prefill(tokens: list[int]) -> torch.Tensor:
            out = module.model(input_ids=torch.tensor([tokens]), use_cache=True)
            return module.lm_head(out.last_hidden_state[:, -1:])
    else:

        def prefill(tokens: list[int]) -> torch.Tensor:
            state, start = model.state(), 0
            for end in [*model.plan(tokens), len(tokens)]:
                if end == start:
                    continue
                last = model.step(state, tokens[start:end], rows="last")
                if end != len(tokens):
                    model.close(state)
                start = end
            return last

    with torch.inference_mode():
        prefill(ids[:64])
        before = peak_bytes()
        started, worked = time.perf_counter(), time.process_time()
        prefill(ids)
        seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {
        "mode": mode,
        "tokens": count,
        "seconds": seconds,
        "cpuSeconds": cpu,
        "peakExtraBytes": peak_bytes() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = HERE.parent
    parser.add_argument(
        "--checkpoint", type=Path, default=root / ".lockstep/runs/quickstart-untrained"
    )
    parser.add_argument(
        "--text", type=Path, default=root / ".lockstep/texts/milton/paradiselost.txt"
    )
    parser.add_argument("--tokens", default="4096,8192,16384,32768")
    parser.add_argument("--full", default="4096,8192,16384,32768")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        mode, count = args.case.split(":")
        case = run_case(mode, args.checkpoint, args.text, int(count), args.threads)
        print(json.dumps(case))
        return
    from machine import header, write_raw

    rows = []
    full = {int(n) for n in args.full.split(",") if n}
    for count in [int(n) for n in args.tokens.split(",")]:
        for mode in ["segmented", *(["full"] if count in full else [])]:
            out = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--case", f"{mode}:{count}"],
                capture_output=True,
                text=True,
            )
            if out.returncode != 0:
                sys.exit(out.stderr)
            rows.append(json.loads(out.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr, flush=True)
    head = header("npm run bench -- prefill")
    write_raw("prefill", {**head, "threads": args.threads, "rows": rows})


if __name__ == "__main__":
    main()
