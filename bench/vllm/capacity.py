"""How many long requests fit: prompts of 32K tokens decoding at once in 1 GiB of KV cache.

usage: python bench/vllm/capacity.py [--prompt 32000] [--space 1.0] [--most 8]

Requests are given one after the other to an engine with so much KV cache; counted is the most that
decoded together before one was preempted or had to wait. Stock vLLM with full attention gets the
same prompts; where it refuses to start because one request does not fit, the count is 0 and its
words are kept. An engine a process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "python")]


def full_house(scheduler: Any) -> bool:
    """Nobody else fits: one was preempted, or all who run decode and others still wait."""
    if any(one.num_preemptions for one in scheduler.requests.values()):
        return True
    decoding = all(one.num_computed_tokens >= one.num_prompt_tokens for one in scheduler.running)
    return bool(scheduler.waiting and scheduler.running and decoding)


def serve(args: argparse.Namespace) -> dict[str, Any]:
    """Child: fill one engine."""
    from inprocess import Inside
    from prefill import token_ids

    steps = args.most * (args.prompt // args.budget + 2)  # nobody ends before the last has begun
    segmented = args.mode == "segmented"
    try:
        inside = Inside(
            args.checkpoint if segmented else args.model,
            args.mode,
            args.threads,
            args.space,
            max_model_len=args.prompt + steps + 2,
            max_num_batched_tokens=args.budget,
            max_num_seqs=args.most,
        )
    except ValueError as error:
        return {"mode": args.mode, "together": 0, "refused": str(error).split("\n")[0]}
    from vllm import SamplingParams

    ids = token_ids(args.model, args.text, args.prompt + args.most)
    answer = SamplingParams(temperature=0.0, max_tokens=steps, ignore_eos=True, detokenize=False)
    for i in range(args.most):
        prompt = {"prompt_token_ids": ids[i : i + args.prompt]}
        inside.engine.add_request(f"{i}", prompt, answer)
    together, held = 0, 0
    while together < args.most and not full_house(inside.scheduler):
        together = max(together, len(inside.engine.step()))
        held = max(held, inside.held)
    return {"mode": args.mode, "together": together, "kvBytes": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work = ROOT / ".lockstep"
    parser.add_argument("--checkpoint", type=Path, default=work / "runs/quickstart-untrained")
    parser.add_argument("--model", type=Path, default=work / "models/smollm2-135m-instruct")
    parser.add_argument("--text", type=Path, default=work / "texts/milton/paradiselost.txt")
    parser.add_argument("--prompt", type=int, default=32_000)
    parser.add_argument("--space", type=float, default=1.0, help="GiB of KV cache")
    parser.add_argument("--most", type=int, default=8, help="requests tried")
    parser.add_argument("--budget", type=int, default=2048, help="tokens a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.mode:
        print("\n" + json.dumps(serve(args)), flush=True)
        return
    from machine import header

    rows = []
    for mode in ("segmented", "full"):
        command = [sys.executable, __file__, *sys.argv[1:], "--mode", mode]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.strip().split("\n")[-1]))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    raw = header(" ".join(["python bench/vllm/capacity.py", *sys.argv[1:]]))
    settings = {"prompt": args.prompt, "space": args.space, "most": args.most}
    out = HERE / "raw" / "capacity.json"
    out.write_text(json.dumps({**raw, **settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
