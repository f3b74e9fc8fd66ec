"""One row of the scheduling matrix: a real vLLM engine serves, the operator is asked the same.

usage: python bench/vllm/cell.py ROW.json OUT.json      (an engine a process)

ROW: {checkpoint, budget, batch, preemption, caching, answer, prompts, warm, ranks?, against?}; the
operator runs ``against``, the checkpoint itself unless named. Token ids go in. Prompt
log-probabilities are compared where nothing is cached (vLLM computes a prompt again to give them);
the tokens that vLLM then chose are compared one by one always.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(Path(__file__).parent)]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_PLUGINS", "lockstep")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
# The engine in this process, so that its scheduler can be watched; functions may go to workers.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"

BLOCK = 16
GAP = 1e-3  # two best tokens closer than this (in log p) may change places


def record(worker: Any) -> None:
    """On a worker: note what every boundary retrieves, by request and by the tokens before it.

    A request that was preempted chooses twice, and one that hits a prefix goes on with what another
    chose for the same tokens: the first and the last choice are kept of each.
    """
    batch = worker.model_runner.input_batch
    worker.retrieved = {}

    class Recorder:
        def cut(self, pieces: Any) -> None:
            pass

        def ran(self, hidden: Any) -> None:
            pass

        def replace_retrieved(self, layer: int, closing: Any, positions: Any) -> Any:
            before = batch.token_ids_cpu[closing.row, : closing.end].astype("int32").tobytes()
            request = batch.req_ids[closing.row].split("-")[0]
            for key in ((request, closing.end, layer), (before, layer)):
                worker.retrieved.setdefault(key, [None, None])[1] = positions.tolist()
                worker.retrieved[key][0] = worker.retrieved[key][0] or worker.retrieved[key][1]
            return positions

    worker.get_model().segments.observer = Recorder()


def recorded(worker: Any) -> dict[Any, list[Any]]:
    return worker.retrieved


def forget(worker: Any) -> None:
    worker.retrieved.clear()


def main(row: dict[str, Any]) -> dict[str, Any]:
    import lockstep
    import torch
    from vllm import LLM, SamplingParams

    torch.set_num_threads(1)
    if row.get("ranks", 1) > 1:
        # Two ranks on one NUMA node: each its own cores, which vLLM does not choose there.
        cores = sorted(os.sched_getaffinity(0))[: row["ranks"]]
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores)))
    longest = max(map(len, [*row["prompts"], *row["warm"]])) + row["answer"]
    llm = LLM(
        model=row["checkpoint"],
        dtype="float32",
        enforce_eager=True,
        block_size=BLOCK,
        max_model_len=longest + 1,
        max_num_batched_tokens=row["budget"],
        max_num_seqs=min(row["batch"], row["budget"]),
        enable_prefix_caching=row["caching"] != "off",
        # Upstream keeps windows where a prompt ended; hits are wanted anywhere here.
        prefix_cache_retention_interval=None if row["warm"] else 0,
        tensor_parallel_size=row.get("ranks", 1),
        seed=0,
    )
    llm.collective_rpc(record)
    scheduler = llm.llm_engine.engine_core.engine_core.scheduler
    chunks = watch_chunks(scheduler)
    scored_prompts = row["caching"] == "off"
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=row["answer"],
        ignore_eos=True,
        logprobs=1,
        prompt_logprobs=1 if scored_prompts else None,
        extra_args={"lockstep_segments": 1},
    )

    def serve(prompts: list[list[int]]) -> list[Any]:
        return llm.generate([{"prompt_token_ids": p} for p in prompts], sampling, use_tqdm=False)

    def run() -> list[Any]:
        llm.collective_rpc(forget)
        if row["warm"]:
            serve(row["warm"])
        chunks.clear()
        return serve(row["prompts"])

    preempted(scheduler)
    if row["preemption"] == "forced":
        outputs, preemptions = squeezed(scheduler, llm, run, row)
    else:
        outputs, preemptions = run(), preempted(scheduler)
    ranks = llm.collective_rpc(recorded)
    model = lockstep.load(row.get("against", row["checkpoint"]))
    result: dict[str, Any] = {
        "preemptions": preemptions,
        "resumed": resumed_from_cache(chunks),
        "hits": [],
        "tokens": 0,
        "prompt": 0.0,
        "decode": 0.0,
        "flips": 0,
        "near": 0,
        "boundaries": 0,
        "retrievals": 0,
        "mismatches": [],
        "cut": 0,
        "chunks": len(chunks),
    }
    for output in outputs:
        add(result, model, output, ranks, scored_prompts)
        room = row["budget"] - row["batch"]
        result["cut"] += cut_segments(chunks, output.request_id, result_cuts(model, output), room)
    return result


def add(
    result: dict[str, Any],
    model: Any,
    output: Any,
    ranks: list[Any],
    scored_prompts: bool,
) -> None:
    """Compare one request."""
    from reference import score

    prompt, answer = list(output.prompt_token_ids), list(output.outputs[0].token_ids)
    ids = prompt + answer
    cuts = result_cuts(model, output)
    told = output.kv_transfer_params["lockstep"]["segments"]
    assert [end for _, end in told] == cuts, (told, cuts)
    variants = [choices(output.request_id, ids, cuts, model, ranks, which) for which in (0, 1)]
    if variants[0] == variants[1]:
        variants.pop()
    scored = [score(model, ids, variant) for variant in variants]
    edges = [0, *cuts, len(ids)]
    hit = output.num_cached_tokens or 0
    if hit:
        result["hits"].append({"tokens": hit, "at": "end" if hit in edges else "inside"})
    result["boundaries"] += len(cuts)
    result["retrievals"] += scored[0].compared
    result["mismatches"] += [one for variant in scored for one in variant.mismatches]

    def worst(kind: str, at: int, token: int, told: float) -> None:
        """Before a preemption the first choice holds, after it the last."""
        off = min(abs(told - float(variant.logp_TV[at, token])) for variant in scored)
        result[kind] = max(result[kind], off)
        result["tokens"] += 1

    if scored_prompts:
        for at in range(1, len(prompt)):
            worst("prompt", at - 1, ids[at], output.prompt_logprobs[at][ids[at]].logprob)
    for i, token in enumerate(answer):
        at = len(prompt) + i - 1
        worst("decode", at, token, output.outputs[0].logprobs[i][token].logprob)
        rows = [variant.logp_TV[at] for variant in scored]
        best, second = rows[0].topk(2).values.tolist()
        if best - second <= GAP:
            result["near"] += 1
        elif all(int(row_V.argmax()) != token for row_V in rows):
            result["flips"] += 1


def choices(
    request: str, ids: list[int], cuts: list[int], model: Any, ranks: list[Any], which: int
) -> dict[tuple[int, int], list[list[int]]]:
    """What the request retrieved; where it hit a prefix, what was chosen for the same tokens."""
    import numpy as np

    found = {}
    for end in cuts:
        before = np.array(ids[:end], dtype=np.int32).tobytes()
        for layer in model.spec.retrieval_layers:
            keys = ((request, end, layer), (before, layer))
            parts = [rank.get(keys[0]) or rank.get(keys[1]) for rank in ranks]
            if all(parts):
                found[end, layer] = [head for part in parts for head in part[which]]
    return found


def result_cuts(model: Any, output: Any) -> list[int]:
    return model.plan([*output.prompt_token_ids, *output.outputs[0].token_ids])


Chunk = tuple[str, int, int, int]


def cut_segments(chunks: list[Chunk], name: str, cuts: list[int], room: int) -> int:
    """Chunks that end inside a segment which would have fitted into a step."""
    wrong = 0
    for key, _, end, known in chunks:
        if key.split("-")[0] != name or end in cuts or end >= known:
            continue
        start = max((cut for cut in cuts if cut < end), default=0)
        stop = min((cut for cut in cuts if cut > end), default=known)
        wrong += min(stop, known) - start <= room
    return wrong


def resumed_from_cache(chunks: list[Chunk]) -> int:
    """Requests that started again after a preemption, and not from their first token."""
    at: dict[str, int] = {}
    found = 0
    for key, start, end, _ in chunks:
        found += 0 < start < at.get(key, 0)
        at[key] = end
    return found


def watch_chunks(scheduler: Any) -> list[Chunk]:
    """Every chunk scheduled from now on: request, start, end, tokens known then."""
    chunks: list[Chunk] = []
    stock = scheduler._update_after_schedule

    def after(output: Any) -> None:
        for name, count in output.num_scheduled_tokens.items():
            request = scheduler.requests[name]
            start = request.num_computed_tokens
            chunks.append((name, start, start + count, request.num_tokens))
        stock(output)

    scheduler._update_after_schedule = after
    return chunks


def preempted(scheduler: Any) -> int:
    """Preemptions so far; counts from the first call on."""
    if not hasattr(scheduler, "seen_preemptions"):
        scheduler.seen_preemptions = 0
        stock = scheduler._preempt_request

        def preempt(*args: Any, **kwargs: Any) -> None:
            scheduler.seen_preemptions += 1
            stock(*args, **kwargs)

        scheduler._preempt_request = preempt
    return scheduler.seen_preemptions


def squeezed(
    scheduler: Any, llm: Any, run: Callable[[], list[Any]], row: dict[str, Any]
) -> tuple[list[Any], int]:
    """Run with ever fewer KV blocks, the largest request's at least, until some are preempted."""
    pool = scheduler.kv_cache_manager.block_pool
    most = {"all": 0, "one": 0}
    stock = scheduler.schedule

    def measure(*args: Any, **kwargs: Any) -> Any:
        output = stock(*args, **kwargs)
        managers = scheduler._managers
        each = [
            sum(not b.is_null for m in managers for b in m.req_to_blocks.get(r.request_id, ()))
            for r in scheduler.running
        ]
        most["all"] = max(most["all"], sum(each))
        most["one"] = max(most["one"], *each, 0)
        return output

    scheduler.schedule = measure
    run()
    scheduler.schedule = stock
    least = round(1.1 * most["one"]) + 4
    for share in (0.7, 0.55, 0.4, 0.3, 0.2, 0.0):
        llm.reset_prefix_cache()
        keep = max(round(share * most["all"]), least)
        free = pool.free_block_queue.num_free_blocks
        if free > keep:
            pool.get_new_blocks(free - keep)
        before = preempted(scheduler)
        outputs = run()
        row["blocks"] = {"needed": most["all"], "left": keep}
        if preempted(scheduler) > before:
            return outputs, preempted(scheduler) - before
    raise AssertionError(f"nothing was preempted, {row['blocks']}")


if __name__ == "__main__":
    description = json.loads(Path(sys.argv[1]).read_text())
    found = main(description)
    found["blocks"] = description.get("blocks")
    Path(sys.argv[2]).write_text(json.dumps(found))
