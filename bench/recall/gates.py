"""Long heads by gates that answers train: which heads must see everything for answers to be right.

    PYTHONPATH=python .venv/bin/python bench/recall/gates.py [--steps 100] [--length 1280]

Each KV head mixes two uses by one gate, ``g * full + (1 - g) * local``, with the weights frozen.
Full attention sees every token before; local attention sees the sinks, the carry and its own
segment of the plan. The loss is that of the answer's tokens, plus a penalty on the mean gate. The
texts are those of ``lockstep profile --method recall`` (templates `profile`, Shakespeare). Writes
``gates.json``: gates by layer and head.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lockstep.evaluation.profile.recall import STRIDE
from lockstep.loader import load
from lockstep.needles.documents import DocumentMaker
from lockstep.needles.templates import KINDS
from lockstep.operator import lm_head
from lockstep.operator.model import Model
from lockstep.operator.rope import rotate
from lockstep.tokenizer.file import load_tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from machine import header  # noqa: E402
from windows import PLAIN, RUNS, wrap_of  # noqa: E402

PENALTY, RATE = 1.5, 0.15


class Mixed:
    """Attention of one sequence, each KV head of every layer mixed by its gate."""

    def __init__(self, model: Model, length: int, starts: list[int], theta_LH: Tensor):
        spec = model.spec
        self._table = model.rope.rows(0, length)
        self._gates = theta_LH.sigmoid()
        at = torch.arange(length)
        start_T = torch.tensor(starts)[torch.searchsorted(torch.tensor(starts), at, right=True) - 1]
        near = at >= (start_T - spec.carry)[:, None]
        self._local_TT = (at <= at[:, None]) & (near | (at < spec.sinks))

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        g = len(q_HTD) // len(k_HTD)
        q, k = rotate(q_HTD, *self._table), rotate(k_HTD, *self._table).repeat_interleave(g, 0)
        v = v_HTD.repeat_interleave(g, 0)
        full = scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, scale=scale)
        local = scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=self._local_TT, scale=scale
        )
        gate_H = self._gates[layer].repeat_interleave(g)[:, None, None]
        return torch.lerp(local[0], full[0], gate_H)


def main() -> None:
    take = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    take.add_argument("--steps", type=int, default=100)
    take.add_argument("--length", type=int, default=1280)
    take.add_argument("--text", type=Path, default=ROOT / ".lockstep/texts/shakespeare")
    asked = take.parse_args()
    torch.set_num_threads(1)
    model = load(RUNS / PLAIN)
    for weight in model.module.parameters():
        weight.requires_grad_(False)
    tokenizer = load_tokenizer(RUNS / PLAIN)
    wrap = wrap_of(RUNS / PLAIN, model.contract.document["tokenizer"]["bos"])
    text = "\n".join(file.read_text("utf-8") for file in sorted(asked.text.glob("*.txt")))
    every = tokenizer.encode(text[:4_000_000], add_special_tokens=False).ids
    theta_LH = torch.zeros(len(model.layout.layers), model.layout.kv_heads, requires_grad=True)
    optimizer = torch.optim.Adam([theta_LH], lr=RATE)
    for step in range(asked.steps):
        start = step * (len(every) - asked.length) // asked.steps
        kinds = (KINDS[step % len(KINDS)],)
        maker = DocumentMaker(
            tokenizer, every[start : start + asked.length], "profile", wrap, kinds
        )
        depth = (step * STRIDE) % asked.steps / asked.steps
        loss = _loss(model, maker.make(f"0/{step}", asked.length, [depth]), theta_LH)
        mean = theta_LH.sigmoid().mean()
        (loss + PENALTY * mean).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        gates = theta_LH.detach().sigmoid()
        print(step, f"{float(loss.detach()):.3f}", int((gates > 0.5).sum()), flush=True)
    found: dict[str, Any] = header(f"python bench/recall/{Path(__file__).name}")
    found |= {"steps": asked.steps, "length": asked.length, "scores": gates.tolist()}
    (HERE / "gates.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def _loss(model: Model, document: Any, theta_LH: Tensor) -> Tensor:
    """Mean -log p of the answer's tokens."""
    needle, begin = document.needles[0], len(document.ids)
    ids = [*document.ids, *needle.tail]
    starts = [0, *(cut for cut in model.plan(ids) if cut < len(ids))]
    context = Mixed(model, len(ids), starts, theta_LH)
    hidden_TE = model.forward(torch.tensor(ids), context)
    first, last = begin + needle.answer.start, begin + needle.answer.stop
    logits_tV = lm_head.logits(model.head, hidden_TE[first - 1 : last - 1])
    return cross_entropy(logits_tV, torch.tensor(ids[first:last]))


if __name__ == "__main__":
    main()
