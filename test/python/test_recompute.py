"""Recomputed activations change no gradient, whichever KV heads are long."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from lockstep import Model, Spec, tbptt
from tiny import text, tiny

torch.set_num_threads(1)
KV_HEADS = 3
PATTERNS = [heads for n in range(KV_HEADS + 1) for heads in combinations(range(KV_HEADS), n)]
#: Several documents a step, segments of every length, a document of one segment.
DOCS = [(text(26, 1), [5, 9, 17, 22]), (text(11, 2), [4]), (text(6, 3), [])]


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("pooled", [True, False], ids=["retrieval", "no-retrieval"])
@pytest.mark.parametrize("long", PATTERNS, ids=lambda heads: "long" + "".join(map(str, heads)))
def test_every_pattern_of_heads(long: tuple[int, ...], pooled: bool, group: int) -> None:
    module = tiny(layers=2, seed=5, kv_heads=KV_HEADS, group=group)
    # The other layer has its own pattern and the other kind, so that both kinds meet.
    other = tuple(head for head in range(KV_HEADS) if head not in long)
    spec = Spec(
        max=8,
        carry=4,
        sinks=2,
        retrieval_size=3,
        recipe="topk",
        retrieval_layers=(1,) if pooled else (0,),
        long_heads=(other, long),
    )
    model = Model.from_module(module, spec)
    for truncation in (0, 2):
        kept, again = (_gradients(model, truncation, recompute) for recompute in (False, True))
        assert kept.keys() == again.keys() and kept
        for name, gradient in kept.items():
            assert torch.equal(again[name], gradient), name
            assert gradient.abs().max() > 0, name


def _gradients(model: Model, truncation: int, recompute: bool) -> dict[str, torch.Tensor]:
    model.module.zero_grad()
    tbptt.backward(model, DOCS, truncation, recompute=recompute)
    return {n: w.grad.clone() for n, w in model.module.named_parameters() if w.grad is not None}
