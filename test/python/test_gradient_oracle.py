"""The gradient reference itself: limits in which L_K is known otherwise."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tiny
import torch
from oracle.gradient import gradient
from oracle.model import Oracle, Spec
from test_parity_oracle import float64_norms, plain_spec, weights_of

torch.set_num_threads(1)


def relative(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Largest difference of a tensor, relative to that tensor's largest entry."""
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max().clamp_min(1e-300)) for n in a)


@pytest.mark.parametrize("tied", [False, True])
def test_with_everything_carried_and_no_truncation_it_is_the_stock_gradient(tied: bool) -> None:
    model = tiny.tiny("qwen3", seed=1, layers=2, tied=tied)
    ids = tiny.text(18, 4)
    spec = plain_spec(model, carry=18, sinks=2)
    total, count, grads = gradient(
        weights_of(model), model.config, spec, [(ids, [1, 5, 12])], truncation=4
    )
    float64_norms(model)
    logits = model(torch.tensor([ids])).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    (loss / 17).backward()
    assert count == 17 and abs(total - float(loss.detach())) < 1e-10
    stock = {name: weight.grad for name, weight in model.named_parameters()}
    assert relative(grads, stock) < 1e-12


def test_truncation_changes_gradients_and_not_losses() -> None:
    model = tiny.tiny("llama", seed=2, layers=2)
    ids, cuts = tiny.text(20, 5), [3, 6, 10, 16]
    spec = plain_spec(model, carry=5, sinks=2)
    weights = weights_of(model)
    losses, gradients = [], []
    for truncation in range(5):
        total, _, grads = gradient(weights, model.config, spec, [(ids, cuts)], truncation)
        losses.append(total)
        gradients.append(grads)
    logits, _, _ = Oracle(weights, model.config, spec).forward(ids, cuts)
    plain = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum")
    assert max(abs(loss - float(plain)) for loss in losses) < 1e-10
    for less, more in pairwise(gradients):
        assert relative(less, more) > 1e-3
    _, _, beyond = gradient(weights, model.config, spec, [(ids, cuts)], 9)
    assert relative(beyond, gradients[4]) == 0


def test_it_is_the_derivative_of_each_loss_with_its_constants_held() -> None:
    """K = 0, one weight, by central differences: in each l_i only segment i moves with it."""
    model = tiny.tiny("llama", seed=4, layers=2)
    ids, cuts = tiny.text(12, 6), [4, 8]
    spec = Spec(3, 1, 3, "topk", (1,), ((0,), (1,)))
    weights = weights_of(model)
    name, at, step = "model.layers.0.self_attn.v_proj.weight", (3, 5), 1e-5
    _, _, grads = gradient(weights, model.config, spec, [(ids, cuts)], 0, targets=1)

    def loss(change: float) -> float:
        moved = {n: w.clone() for n, w in weights.items()}
        moved[name][at] += change
        total = 0.0
        for start, end in [(0, 4), (4, 8), (8, 12)]:
            _, found, state = Oracle(weights, model.config, spec).forward(ids, cuts)
            boundary = next((b for b in found if b.at == start), None)
            state = state.constant(start, boundary)
            logits = Oracle(moved, model.config, spec).segment(state, ids[start:end], close=False)
            for t in range(start, min(end, 11)):
                total -= float(torch.log_softmax(logits[t - start], 0)[ids[t + 1]])
        return total

    numeric = (loss(step) - loss(-step)) / (2 * step)
    assert abs(numeric - float(grads[name][at])) < 1e-8 * max(1.0, abs(numeric))
