"""Segmented execution in vLLM against stock vLLM with full attention, the same weights.

usage: python bench/vllm/speed.py [--checkpoint DIR] [--compare DIR] [--model DIR]
           [--prompts 1000,7900,32000] [--batches 1,16] [--decode 32] [--threads 2] [--out FILE]

An engine a process, one after the other; both in float32, eager, without prefix caching, with the
same budget of tokens a step. For every prompt length and batch: seconds and CPU seconds until the
last request's first token, the median of the steps in which nothing but decoding ran, the KV bytes
held when the prompts ended and the most that were held. Large cases (batch x prompt above
--most-tokens) are left out. ``--compare`` is another contract on the same weights, run before them
(rows of mode ``compared``). Full attention gets as many positions as the longest prompt needs
(``max_position_embeddings``): beyond the model's own, what it answers means nothing, how fast does.
Only ratios within one run mean anything.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]


def serve(args: argparse.Namespace, mode: str) -> None:
    """Child: one engine, all cases, a JSON line each."""
    from inprocess import Inside
    from prefill import token_ids

    folder = {"segmented": args.checkpoint, "compared": args.compare, "full": args.model}[mode]
    prompts, batches = numbers(args.prompts), numbers(args.batches)
    longest = max(prompts) + answer(max(prompts), max(batches), args) + 2
    positions = {"hf_overrides": {"max_position_embeddings": longest}} if mode == "full" else {}
    inside = Inside(
        folder,
        "full" if mode == "full" else "segmented",
        args.threads,
        args.space,
        max_model_len=longest,
        max_num_batched_tokens=args.budget,
        max_num_seqs=max(batches),
        **positions,
    )
    engine = inside.engine
    from vllm import SamplingParams

    ids = token_ids(args.model, args.text, max(prompts) + max(batches))

    def run(count: int, batch: int, tokens: int) -> dict[str, Any]:
        decode = SamplingParams(
            temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        for i in range(batch):
            engine.add_request(f"{count}-{i}", {"prompt_token_ids": ids[i : i + count]}, decode)
        began, worked = time.perf_counter(), time.process_time()
        first: dict[str, float] = {}
        steps: list[float] = []
        most, ended, cpu = 0, 0, 0.0
        while engine.has_unfinished_requests():
            at = time.perf_counter()
            outputs = engine.step()
            took = time.perf_counter() - at
            held = inside.held
            most = max(most, held)
            if len(first) == batch and len(outputs) == batch:
                steps.append(took)
            for output in outputs:
                if output.outputs and output.outputs[0].token_ids:
                    first.setdefault(output.request_id, time.perf_counter() - began)
            if len(first) == batch and not ended:
                ended, cpu = held, time.process_time() - worked
        return {
            "mode": mode,
            "prompt": count,
            "batch": batch,
            "prefillSeconds": max(first.values()),
            "prefillCpuSeconds": cpu,
            "decodeMs": 1e3 * statistics.median(steps),
            "kvBytes": ended,
            "kvPeakBytes": most,
        }

    run(min(prompts), 1, 3)
    for count in prompts:
        for batch in batches:
            if count * batch <= args.most_tokens:
                row = run(count, batch, answer(count, batch, args))
                print(json.dumps(row), flush=True)


def answer(count: int, batch: int, args: argparse.Namespace) -> int:
    """Tokens of each answer: the first must not end before the last has decoded for a while."""
    prefill = 2 * math.ceil(count * batch / args.budget) if batch > 1 else 0
    return int(prefill + args.decode)


def numbers(text: str) -> list[int]:
    return [int(one) for one in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work = ROOT / ".lockstep"
    parser.add_argument("--checkpoint", type=Path, default=work / "runs/quickstart-untrained")
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--model", type=Path, default=work / "models/smollm2-135m-instruct")
    parser.add_argument("--text", type=Path, default=work / "texts/milton/paradiselost.txt")
    parser.add_argument("--prompts", default="1000,7900,32000")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--decode", type=int, default=32)
    parser.add_argument("--budget", type=int, default=2048, help="tokens a step")
    parser.add_argument("--most-tokens", type=int, default=130_000)
    parser.add_argument("--space", type=float, default=7.0, help="GiB of KV cache")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "raw" / "speed.json")
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode:
        serve(args, args.mode)
        return
    from machine import header

    rows = []
    for mode in (*(["compared"] if args.compare else []), "segmented", "full"):
        command = [sys.executable, __file__, *sys.argv[1:], "--mode", mode]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith('{"mode"'):
                    rows.append(json.loads(line))
                    print(line.strip(), file=sys.stderr, flush=True)
        if process.returncode != 0:
            sys.exit(f"{mode}: vLLM ended with exit code {process.returncode}")
    settings = {"budget": args.budget, "decode": args.decode, "threads": args.threads}
    raw = {**header("python bench/vllm/speed.py " + " ".join(sys.argv[1:])), **settings}
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps({**raw, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
