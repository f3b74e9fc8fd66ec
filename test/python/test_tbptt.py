"""Truncated gradients beyond the oracle's matrix: several documents, partial training, memory."""

from __future__ import annotations

import gc

import pytest
import tiny
import torch
from lockstep import LockstepError, Model, Spec, full, tbptt
from lockstep.operator import lm_head

torch.set_num_threads(1)

SPEC = Spec(8, 5, 4, 4, "anchors", (1, 2), ((0,), (0, 1), (1,)))
DOCS = [
    (tiny.text(30, 1), [8, 13, 20, 28]),
    (tiny.text(9, 2), [4]),
    (tiny.text(1, 3), []),
    (tiny.text(21, 4), None),
]


def model_of(dtype: torch.dtype = torch.float64, tied: bool = False) -> Model:
    return Model.from_module(tiny.tiny("llama", seed=8, dtype=dtype, tied=tied), SPEC)


def grads(model: Model) -> dict[str, torch.Tensor]:
    out = {n: p.grad for n, p in model.module.named_parameters() if p.grad is not None}
    model.module.zero_grad()
    return out


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys() and a
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in a)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("truncation", [0, 1, 3])
def test_documents_together_are_the_sum_of_each(truncation: int, tied: bool) -> None:
    model = model_of(tied=tied)
    together = tbptt.backward(model, DOCS, truncation)
    a = grads(model)
    losses = [tbptt.backward(model, [doc], truncation, targets=57) for doc in DOCS]
    assert together.targets == sum(loss.targets for loss in losses) == 57
    assert abs(together.sum - sum(loss.sum for loss in losses)) < 1e-9
    assert distance(a, grads(model)) < 1e-12


def test_the_loss_is_the_plain_forward_pass() -> None:
    model = model_of()
    plain = sum(float(model.nll(ids, cuts).sum()) for ids, cuts in DOCS)
    for truncation in (0, 2):
        assert abs(tbptt.backward(model, DOCS, truncation).sum - plain) < 1e-9


def test_targets_scale_the_gradient_and_accumulate() -> None:
    model = model_of()
    tbptt.backward(model, DOCS, 1, targets=57)
    once = grads(model)
    for _ in range(3):
        tbptt.backward(model, DOCS, 1, targets=171)
    assert distance(grads(model), once) < 1e-12


def test_frozen_weights_get_no_gradient_and_do_not_change_the_others() -> None:
    model = model_of()
    tbptt.backward(model, DOCS, 2)
    whole = grads(model)
    for name, weight in model.module.named_parameters():
        weight.requires_grad_("self_attn" in name)
    tbptt.backward(model, DOCS, 2)
    part = grads(model)
    assert set(part) == {n for n in whole if "self_attn" in n}
    assert distance(part, {n: whole[n] for n in part}) < 1e-12


@pytest.mark.parametrize(
    "way", [lambda m: tbptt.backward(m, DOCS, 1), lambda m: full.backward(m, DOCS)]
)
def test_the_output_head_can_be_trained_alone(way) -> None:
    model = model_of()
    way(model)
    expected = grads(model)["lm_head.weight"]
    for name, parameter in model.module.named_parameters():
        parameter.requires_grad_(name == "lm_head.weight")
    way(model)
    assert distance(grads(model), {"lm_head.weight": expected}) < 1e-12


@pytest.mark.parametrize("truncation", [0, 1, 2])
def test_live_graphs_do_not_grow_with_segments(
    truncation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest number of floats held by tensors is the same at 6 and at 24 segments."""
    model = Model.from_module(
        tiny.tiny("llama", seed=8), Spec(8, 5, 4, 0, "anchors", (), ((0,), (), ()))
    )
    held: list[int] = []
    original = lm_head.backward

    def watched(*args: object) -> object:
        gc.collect()
        seen = {
            o.untyped_storage().data_ptr(): o.untyped_storage().nbytes()
            for o in gc.get_objects()
            if issubclass(type(o), torch.Tensor)  # isinstance would wake lazy modules
        }
        held.append(sum(seen.values()))
        return original(*args)

    monkeypatch.setattr(lm_head, "backward", watched)
    most = []
    for segments in (6, 6, 24):  # the first call makes the gradients
        held.clear()
        tbptt.backward(model, [(tiny.text(8 * segments, 0), None)], truncation)
        assert len(held) == segments
        most.append(max(held) - held[0])
    assert most[1] == most[2]


def test_the_chunked_head_is_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "CHUNK", 4)
    model = model_of(torch.float32)
    hidden = torch.randn(11, 20, generator=torch.Generator().manual_seed(0)) * 3
    targets = torch.tensor(tiny.text(11, 6))
    nll = lm_head.nll(model.head, hidden, targets)
    expected = torch.nn.functional.cross_entropy(
        model.head(hidden).double(), targets, reduction="none"
    )
    assert nll.dtype == torch.float64 and (nll - expected).abs().max() < 1e-5
    leaf = hidden.clone().requires_grad_()
    some = targets.clone()
    some[[2, 10]] = -1
    loss = torch.nn.functional.cross_entropy(
        model.head(leaf), some, reduction="sum", ignore_index=-1
    )
    (loss * 0.25).backward()
    weight = grads(model)["lm_head.weight"]
    total, grad = lm_head.backward(model.head, hidden, some, 0.25)
    assert abs(total - float(loss.detach())) < 1e-4
    assert (grad - leaf.grad).abs().max() < 1e-6
    assert (grads(model)["lm_head.weight"] - weight).abs().max() < 1e-5


def test_full_attention_training_is_the_stock_gradient() -> None:
    model = model_of()
    ids = tiny.text(25, 5)
    loss = full.backward(model, [(ids, [8, 16])])
    a = grads(model)
    batch = torch.tensor([ids])
    stock = model.module(batch, labels=batch).loss
    stock.backward()
    assert loss.targets == 24 and abs(loss.mean - float(stock.detach())) < 1e-6
    assert distance(grads(model), a) < 1e-5


def test_odd_input() -> None:
    model = model_of()
    assert tbptt.backward(model, [([3], None), ([], None)], 1) == tbptt.Loss(0.0, 0)
    for wrong in (-1, True, 1.5):
        with pytest.raises(LockstepError) as caught:
            tbptt.backward(model, DOCS, wrong)
        assert caught.value.code == "LS_TRAINING_TRUNCATION"
