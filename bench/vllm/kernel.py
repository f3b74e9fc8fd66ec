"""vLLM's own paged attention kernel for CPUs against the product's batched path, on segments.

usage: python bench/vllm/kernel.py [--threads 2] [--repeat 20]

The paged kernel reads whole blocks from the first on, so it can serve a segment only where sinks,
retrieved rows, carry and the segment are whole blocks one after the other, every key rotated for
that segment: a contract of whole blocks without sinks and without retrieval ("paged"). Any other
prefix would be written to blocks first, once a layer and step ("paged, filled"). The product
gathers rows by index, whatever their alignment, and hands them to PyTorch's attention ("gathered",
the batching of lockstep.vllm.step). SmolLM2's heads, float32, one layer; milliseconds of CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "python")]
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait are not at work

H, GROUP, D = 3, 3, 64
BLOCK = 32
SCALE = D**-0.5
#: requests, queries each, rows before the segment, the segment's tokens
CASES = {
    "prefill, 4 segments of 512, a carry of 128": (4, 512, 128, 512),
    "prefill, 4 segments of 512, 512 retrieved rows": (4, 512, 512, 512),
    "decode, 1 request, a carry of 128": (1, 1, 128, 384),
    "decode, 16 requests, a carry of 128": (16, 1, 128, 384),
    "decode, 16 requests, 512 retrieved rows": (16, 1, 512, 384),
}


def milliseconds(run: Callable[[], None], repeat: int) -> float:
    """Mean CPU time of a call."""
    run()
    began = time.process_time()
    for _ in range(repeat):
        run()
    return 1e3 * (time.process_time() - began) / repeat


def case(requests: int, queries: int, prefix: int, own: int, repeat: int) -> dict[str, float]:
    import torch
    import torch.nn.functional as F
    from lockstep.contract.spec import Spec
    from lockstep.vllm.step import _buckets, _runs
    from lockstep.vllm.tracker import QuerySpan
    from vllm import _custom_ops as ops

    length = prefix + own
    q_TND = torch.randn(requests * queries, H * GROUP, D)
    rows_KC = torch.randn(requests * length * H, 2 * D)
    blocks = -(-length // BLOCK)
    cache = torch.zeros(requests * blocks, H, 2 * BLOCK, D)
    k_cache, v_cache = cache.chunk(2, dim=2)
    table = torch.arange(requests * blocks, dtype=torch.int32).view(requests, blocks)
    lengths = torch.full((requests,), length, dtype=torch.int32)
    edges = torch.arange(0, len(q_TND) + 1, queries, dtype=torch.int32)
    slots = (torch.arange(requests)[:, None] * blocks * BLOCK + torch.arange(length)).flatten()
    plan = ops.cpu_attn_get_scheduler_metadata(
        num_reqs=requests,
        num_heads=H * GROUP,
        num_kv_heads=H,
        head_dim=D,
        seq_lens=lengths,
        dtype=torch.float32,
        query_start_loc=edges,
        causal=True,
        sliding_window_size=-1,
        isa="vec",
        enable_kv_split=False,
    )
    paged_TND, gathered_TND = torch.empty_like(q_TND), torch.empty_like(q_TND)

    def fill() -> None:
        k_NHD, v_NHD = rows_KC.view(-1, H, 2 * D).split(D, -1)
        ops.cpu_attn_reshape_and_cache(k_NHD, v_NHD, k_cache, v_cache, slots, "vec")

    def filled() -> None:
        fill()
        paged()

    def paged() -> None:
        ops.cpu_attention_with_kv_cache(
            q_TND, k_cache, v_cache, paged_TND, edges, lengths, SCALE, True, None, -1, table, 0.0,
            plan, None,
        )  # fmt: skip

    spec = Spec(512, prefix, 0, 0, "topk", (), ((),))
    pieces = [
        QuerySpan(r, prefix, length - queries, length, r * queries, False) for r in range(requests)
    ]
    prepared = []
    for runs_n5 in _buckets(_runs(pieces), spec):
        count, most = len(runs_n5), int((runs_n5[:, 3] - runs_n5[:, 2]).max())
        end_n = torch.tensor(runs_n5[:, 3])
        width = int(end_n.max())
        at_nq = torch.tensor(runs_n5[:, 2])[:, None] + torch.arange(most)
        flat_nq = torch.tensor(runs_n5[:, 4])[:, None] + torch.arange(most)
        real_nq = at_nq < end_n[:, None]
        flat_nq = torch.where(real_nq, flat_nq, flat_nq[:, :1])
        mask = torch.zeros(count, 1, most, width).masked_fill_(
            torch.arange(width) > at_nq[:, None, :, None], -torch.inf
        )
        first_nW = torch.tensor(runs_n5[:, 0])[:, None] * length + torch.arange(width)
        first_nW = first_nW.clamp_max(requests * length - 1)
        index = (first_nW[:, None] * H + torch.arange(H)[:, None]).flatten()
        prepared.append((count, most, flat_nq, real_nq, mask.repeat(1, 1, GROUP, 1), index))

    def gathered() -> None:
        for count, most, flat_nq, real_nq, mask, index in prepared:
            k_nHWD, v_nHWD = rows_KC.index_select(0, index).view(count, H, -1, 2 * D).split(D, -1)
            q_nqHgD = q_TND[flat_nq.flatten()].view(count, most, H, GROUP, D)
            q_nHQD = q_nqHgD.permute(0, 2, 3, 1, 4).flatten(2, 3)
            o = F.scaled_dot_product_attention(q_nHQD, k_nHWD, v_nHWD, attn_mask=mask, scale=SCALE)
            o_nqND = o.unflatten(2, (GROUP, most)).permute(0, 3, 1, 2, 4).flatten(2, 3)
            gathered_TND[flat_nq[real_nq]] = o_nqND[real_nq]

    fill()
    paged()
    gathered()
    assert (paged_TND - gathered_TND).abs().max() < 1e-5
    return {
        "paged": milliseconds(paged, repeat),
        "filled": milliseconds(filled, repeat),
        "gathered": milliseconds(gathered, repeat),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=20)
    args = parser.parse_args()
    import torch
    from machine import header
    from vllm.platforms import current_platform

    current_platform.import_kernels()
    torch.set_num_threads(args.threads)
    rows = [{"case": name, **case(*sizes, args.repeat)} for name, sizes in CASES.items()]
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    document = {**header("python bench/vllm/kernel.py"), "threads": args.threads, "rows": rows}
    (HERE / "raw" / "kernel.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
