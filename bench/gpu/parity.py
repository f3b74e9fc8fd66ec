"""Operator and gradient on the device against the CPU's float64: tiny random models, several specs.

usage: python bench/gpu/parity.py --out FILE.jsonl [--dry]

A row for each spec and type: the largest difference of logits and of gradients, each over the
reference's largest value, and the same of the CPU in that type (what rounding alone costs). In
16 bits a near-tie may be selected otherwise: ``sameRows`` is the share of retrieved rows in common.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT / "python")]

import torch  # noqa: E402
from documents import cuts  # noqa: E402
from lockstep import retrieval, tbptt  # noqa: E402
from lockstep.contract.spec import Spec  # noqa: E402
from lockstep.operator.model import Model  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

LAYERS, TOKENS, SEGMENT = 3, 300, 48
LONG = ((0,), (), (0, 1))
SPECS: dict[str, dict[str, Any]] = {
    "anchors": {"recipe": "anchors"},
    "topk": {"recipe": "topk"},
    "topk, no sinks": {"recipe": "topk", "sinks": 0},
    "topk, carry all": {"recipe": "topk", "carry_heads": "all"},
    "blocks": {"recipe": "blocks", "block": 8},
    "blocks, carry all": {"recipe": "blocks", "block": 8, "carry_heads": "all"},
}


def spec(name: str) -> Spec:
    given = {"sinks": 4} | SPECS[name]
    return Spec(SEGMENT, 16, given.pop("sinks"), 16, given.pop("recipe"), (0, 2), LONG, **given)


def module() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        initializer_range=0.15,
    )
    return LlamaForCausalLM(config).eval()


def run(base: Any, name: str, device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Logits, gradients in one vector, retrieved rows; all on the CPU in float64."""
    one = copy.deepcopy(base).to(device=device, dtype=dtype)
    model = Model.from_module(one, spec(name))
    ids = torch.randint(0, 96, (TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    ends = cuts(len(ids), SEGMENT)
    logits = model.logits(ids, ends)
    rows = [
        set(retrieved)
        for boundary in model.retrievals(ids, ends)
        for positions in boundary.positions.values()
        for retrieved in retrieval.listed(positions)
    ]
    loss = tbptt.backward(model, [(ids, ends), (ids[:200], cuts(200, SEGMENT))], 1)
    grads = torch.cat([p.grad.flatten().cpu().double() for p in one.parameters()])
    return {"logits": logits.cpu().double(), "grads": grads, "rows": rows, "loss": loss.mean}


def difference(got: dict[str, Any], want: dict[str, Any]) -> dict[str, float]:
    out = {
        key: float((got[key] - want[key]).abs().max() / want[key].abs().max())
        for key in ("logits", "grads")
    }
    both = sum(len(a & b) for a, b in zip(got["rows"], want["rows"], strict=True))
    count = sum(map(len, want["rows"]))
    return out | {"sameRows": both / count if count else 1.0, "loss": got["loss"] - want["loss"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true", help="the CPU in place of the GPU")
    args = parser.parse_args()
    device = "cpu" if args.dry else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a CUDA device, got none; try --dry")
    torch.backends.cuda.matmul.allow_tf32 = False
    base, failed = module(), 0
    with args.out.open("a") as file:
        for name in SPECS:
            want = run(base, name, "cpu", torch.float64)
            for dtype in (torch.float32, torch.bfloat16):
                began = time.monotonic()
                row: dict[str, Any] = {"spec": name, "dtype": str(dtype).removeprefix("torch.")}
                try:
                    row |= {"device": device, **difference(run(base, name, device, dtype), want)}
                    row["cpu"] = difference(run(base, name, "cpu", dtype), want)
                except Exception as error:  # one spec never stops the next
                    failed += 1
                    row["error"] = f"{type(error).__name__}: {error}"[:400]
                row["seconds"] = time.monotonic() - began
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(json.dumps(row), flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
