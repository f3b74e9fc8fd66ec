"""The Python half of bench/planner.ts: jobs as a JSON file, measurements as JSON on stdout."""

import json
import sys
import time
from types import SimpleNamespace

from lockstep.contract.planner import Planner, push_batch


def measure(job: dict, tokens: list[int], singles: int, sequences: int, steps: int) -> dict:
    contract = SimpleNamespace(document=job["contract"], policy_source=job["policySource"])
    start = time.perf_counter()
    planner = Planner(contract, seconds=60.0)
    ready = time.perf_counter() - start
    planner.plan(tokens[:1000])
    start = time.perf_counter()
    boundaries = planner.plan(tokens)
    whole = time.perf_counter() - start
    single = planner.segmenter()
    start = time.perf_counter()
    for token in tokens[:singles]:
        single.push(token)
    one = time.perf_counter() - start
    batch = [planner.segmenter() for _ in range(sequences)]
    start = time.perf_counter()
    for step in range(steps):
        push_batch(batch, [[tokens[step]]] * sequences)
    calls = time.perf_counter() - start
    planner.close()
    return {
        "boundaries": len(boundaries),
        "startMs": ready * 1e3,
        "tokensPerSecond": len(tokens) / whole,
        "usPerSinglePush": one / singles * 1e6,
        "msPerBatch": calls / steps * 1e3,
    }


with open(sys.argv[1], encoding="utf-8") as file:
    work = json.load(file)
tokens = work["tokens"]
arguments = (work["singles"], work["sequences"], work["steps"])
json.dump([measure(job, tokens, *arguments) for job in work["jobs"]], sys.stdout)
