"""Prefill at Llama-2-7B's shape, random weights: segmented against full attention, by the ceilings.

usage: python bench/llama/run.py [--device cuda|cpu] [--shape llama-2-7b|small|FILE.json]
           [--dtype float16|bfloat16|float32] [--tokens 32768,65536,131072] [--repeat 3]
           [--modes segmented,full,full-chunked] [--out FILE.json]

Time and peak memory of a prefill at each length, weights drawn on the device, logits of the last
row alone. Three ways: `segmented`; `full`, transformers' SDPA in one pass filling its own cache;
`full-chunked`, the same attention S tokens at a time into a cache allocated once, so that both
sides have a segment's activations. On a GPU and in 16 bits both full ones are held to
FlashAttention. Every case is a process of its own; one that runs out of memory is recorded so.

Beside each ratio full / segmented stands its ceiling, derived in ceilings.py: time by FLOPs, memory
by weights and KV. Without --out the JSON goes to bench/raw/llama.json where it is the complete
measurement on a GPU; that of a trial is printed, and is refused a place in bench/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "python")]

from ceilings import ceilings  # noqa: E402
from machine import RAW, header  # noqa: E402
from setting import Setting, shape_of  # noqa: E402

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
MODES = ["segmented", "full", "full-chunked"]
TOKENS = [32_768, 65_536, 131_072]
KILLED = -9


def setting_of(args: argparse.Namespace) -> Setting:
    name, shape = shape_of(args.shape)
    return Setting(name, shape, args.segment, args.carry, args.retrieval, args.sinks)


def ratios(rows: list[dict], setting: Setting, element: int) -> list[dict[str, Any]]:
    """Full / segmented of every length and full mode that were both measured."""
    done = {(row["tokens"], row["mode"]): row for row in rows if row["outcome"] == "measured"}
    out = []
    for (tokens, mode), other in done.items():
        own = done.get((tokens, "segmented"))
        if own is None or mode == "segmented":
            continue
        most = ceilings(setting, tokens, element)
        held = [row["weightsBytes"] + row["kvBytes"] for row in (other, own)]
        ratio = {
            "time": other["seconds"] / own["seconds"],
            "peak": other["peakBytes"] / own["peakBytes"],
            "held": held[0] / held[1],
        }
        limit = {"time": most["time"], "peak": most["memory"], "held": most["memory"]}
        share = {key: ratio[key] / limit[key] for key in ratio}
        out.append({"tokens": tokens, "full": mode, **ratio, "ofCeiling": share})
    return out


def child(args: argparse.Namespace, mode: str, tokens: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--case", f"{mode}:{tokens}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode == KILLED:
        reason = "signal 9, as the kernel sends where main memory runs out"
        return {"mode": mode, "tokens": tokens, "outcome": "killed", "reason": reason}
    if done.returncode != 0:
        sys.exit(f"{mode} at {tokens} tokens ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def command(args: argparse.Namespace, setting: Setting) -> str:
    """How to take the figures again; no path of this machine."""
    if complete(args):
        return f"python bench/llama/run.py --dtype {args.dtype} --repeat {args.repeat}"
    sizes = f"--segment {args.segment} --carry {args.carry} --retrieval {args.retrieval}"
    return (
        f"python bench/llama/run.py --device {args.device} --shape {setting.name} "
        f"--dtype {args.dtype} --tokens {','.join(map(str, args.tokens))} --repeat {args.repeat} "
        f"--modes {','.join(args.modes)} {sizes} --sinks {args.sinks}"
    )


def complete(args: argparse.Namespace) -> bool:
    """Whether this is the measurement that may stand in bench/raw: nothing in it is cut short."""
    paper = Setting("llama-2-7b", shape_of("llama-2-7b")[1])
    return (
        setting_of(args) == paper
        and args.device == "cuda"
        and BYTES[args.dtype] == 2
        and args.tokens == TOKENS
        and args.modes == MODES
        and args.repeat >= 3
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    setting, element, rows = setting_of(args), BYTES[args.dtype], []
    result = {
        **header(command(args, setting)),
        "setting": setting.document,
        "dtype": args.dtype,
        "repeat": args.repeat,
        "ceilings": {str(n): ceilings(setting, n, element) for n in args.tokens},
    }
    for tokens in args.tokens:
        for mode in args.modes:
            rows.append(child(args, mode, tokens))
            print(rows[-1], file=sys.stderr, flush=True)
            result |= {"rows": rows, "ratios": ratios(rows, setting, element)}
            # After every case: a loan of a GPU may end before the last.
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                args.out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def main() -> None:
    numbers = lambda s: [int(n) for n in s.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", default="llama-2-7b", help="llama-2-7b, small, or a JSON file")
    parser.add_argument("--dtype", choices=list(BYTES), default="float16")
    parser.add_argument("--tokens", type=numbers, default=TOKENS)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--modes", type=lambda s: s.split(","), default=MODES)
    parser.add_argument("--segment", type=int, default=4096, help="S, in tokens")
    parser.add_argument("--carry", type=int, default=512, help="M, in tokens")
    parser.add_argument("--retrieval", type=int, default=512, help="R, in rows")
    parser.add_argument("--sinks", type=int, default=0, help="A, in tokens; the paper has none")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        from case import measure

        mode, tokens = args.case.split(":")
        how = {"dtype": args.dtype, "device": args.device, "repeat": args.repeat}
        print(json.dumps(measure(setting_of(args), mode, int(tokens), **how)))
        return
    if set(args.modes) - set(MODES):
        parser.error(f"expected modes out of {', '.join(MODES)}, got {', '.join(args.modes)}")
    if args.repeat < 1 or min(args.tokens) < 1:
        parser.error("expected --repeat and --tokens of at least 1")
    if complete(args):
        args.out = args.out or RAW / "llama.json"
    elif args.out and args.out.resolve().is_relative_to(ROOT / "bench"):
        parser.error("expected --out outside bench/ for a trial: only the complete one is kept")
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a CUDA device, got none; try --device cpu --shape small")
    result = run(args)
    if not args.out:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
