"""The authors' scheme of bench/training gives the gradient of L_1, and costs what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from lockstep import tbptt
from lockstep.contract.spec import Spec
from lockstep.operator.model import Model
from tiny import text, tiny

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "training"))
import authors

SPEC = Spec(
    max=16,
    carry=6,
    sinks=2,
    retrieval_size=8,
    recipe="topk",
    retrieval_layers=(1, 2),
    long_heads=((0,), (1,), (0, 1)),
)


def gradients(model: Model) -> dict[str, torch.Tensor]:
    out = {n: p.grad.clone() for n, p in model.module.named_parameters() if p.grad is not None}
    model.module.zero_grad(set_to_none=True)
    return out


def test_the_same_gradient_by_running_segments_twice() -> None:
    model = Model.from_module(tiny("llama"), SPEC)
    ids, cuts = text(75), [16, 25, 41, 57, 66]
    own = tbptt.backward(model, [(ids, cuts)], 1)
    expected = gradients(model)
    calls = []
    forward = model.forward
    model.forward = lambda ids_T, context: (calls.append(len(ids_T)), forward(ids_T, context))[1]
    theirs = authors.backward(model, ids, cuts)
    got = gradients(model)
    assert theirs.sum == pytest.approx(own.sum, abs=1e-9)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert float((got[name] - gradient).abs().max()) <= 1e-10 * max(scale, 1e-6), name
    # Every segment but the last runs twice.
    assert sum(calls) == 2 * 75 - (75 - 66)
