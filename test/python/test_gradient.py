"""The trainer's gradient of L_K against the reference that builds every l_i separately."""

from __future__ import annotations

import weakref

import pytest
import torch
from lockstep import Model, Spec, tbptt
from oracle.gradient import gradient
from parity import RECIPES, plain, spec, weights_of
from test_gradient_oracle import relative
from tiny import ARCHITECTURES, text, tiny
from torch import Tensor, nn

torch.set_num_threads(1)
BOUND = 1e-12
Document = tuple[list[int], list[int]]


def run(module: nn.Module, given: Spec, docs: list[Document], truncation: int, **options):
    """The trainer's loss and gradients by name."""
    module.zero_grad()
    loss = tbptt.backward(Model.from_module(module, given), docs, truncation, **options)
    grads = {
        n: torch.zeros_like(w) if w.grad is None else w.grad.clone()
        for n, w in module.named_parameters()
    }
    return loss, grads


def check(module: nn.Module, given: Spec, docs: list[Document], truncation: int, **options) -> None:
    """Sum, number of targets and every gradient; the loss is the plain forward's."""
    loss, grads = run(module, given, docs, truncation, **options)
    total, count, expected = gradient(
        weights_of(module), module.config, plain(given), docs, truncation, **options
    )
    assert loss.targets == count
    assert abs(loss.sum - total) <= 1e-11 * abs(total)
    model = Model.from_module(module, given)
    values = sum(float(model.nll(ids, cuts).sum()) for ids, cuts in docs)
    assert abs(loss.sum - values) <= 1e-11 * abs(values)
    assert relative(grads, expected) <= BOUND


@pytest.mark.parametrize("truncation", [0, 1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architectures(architecture: str, truncation: int) -> None:
    module = tiny(
        architecture, layers=2, seed=1, bias=True, tied=architecture == "qwen2", rope="yarn"
    )
    for recipe in ("anchors", "blocks, all carry"):
        given = spec(module, carry=5, retrieval_layers=(1,), **RECIPES[recipe])
        check(module, given, [(text(24, 1), [3, 8, 13, 19])], truncation)


@pytest.mark.parametrize("truncation", [0, 1, 2, 3])
@pytest.mark.parametrize("sinks", [0, 4, 9])
@pytest.mark.parametrize("carry", [0, 2, 12])
def test_short_segments_of_every_length(truncation: int, sinks: int, carry: int) -> None:
    """M > S: a carry spans several segments, sinks too, and each row has its own reach."""
    module = tiny(layers=2, seed=2)
    options = {"carry": carry, "sinks": sinks, "retrieval_layers": (0, 1)}
    for recipe in ("anchors", "blocks, all carry" if carry else "blocks"):
        size = 9 if recipe == "anchors" else 4
        given = spec(module, retrieval_size=size, **RECIPES[recipe] | options)
        check(module, given, [(text(17, 2), [1, 3, 4, 9, 10, 12])], truncation)


@pytest.mark.parametrize("heads", [((), ()), ((0, 1), (0, 1)), ((0,), ()), ((0, 1), (1,))])
@pytest.mark.parametrize("recipe", RECIPES)
def test_partitions_and_recipes(heads: tuple, recipe: str) -> None:
    module = tiny(layers=2, seed=3)
    for truncation, layers in ((1, (0, 1)), (3, (0, 1)), (2, (1,))):
        options = {"retrieval_layers": layers, "carry": 7, "retrieval_size": 4}
        given = spec(module, long_heads=heads, **RECIPES[recipe] | options)
        check(module, given, [(text(18, 3), [5, 9, 13])], truncation)


@pytest.mark.parametrize("truncation", [0, 1, 2])
@pytest.mark.parametrize("recompute", [False, True])
def test_long_heads_that_carry(truncation: int, recompute: bool) -> None:
    """Blocks in heads that take unlike numbers of rows, their carry in the graph."""
    module = tiny(layers=2, kv_heads=3, group=2, head_dim=4, seed=9)
    options = RECIPES["blocks, all carry"] | {"carry": 3, "retrieval_layers": (0, 1)}
    given = spec(module, long_heads=((0, 1, 2), (0, 2)), **options)
    docs = [(text(30, 9), [6, 14, 17, 26]), (text(19, 10), [8, 16])]
    expected = gradient(weights_of(module), module.config, plain(given), docs, truncation)[2]
    got = run(module, given, docs, truncation, recompute=recompute)[1]
    assert relative(got, expected) <= BOUND


@pytest.mark.parametrize("truncation", [0, 1, 2, 3])
def test_several_documents_in_one_step(truncation: int) -> None:
    module = tiny(layers=2, seed=4)
    docs = [(text(15, 1), [4, 6, 12]), (text(6, 2), []), (text(9, 3), [2, 9]), (text(1, 4), []),
            (text(2, 5), [1])]  # fmt: skip
    for recipe in ("anchors", "blocks, all carry"):
        options = {"carry": 5, "retrieval_layers": (1,), "retrieval_size": 4}
        given = spec(module, **RECIPES[recipe] | options)
        check(module, given, docs, truncation)
        check(module, given, docs, truncation, targets=100)


def test_gradients_add_up_over_calls() -> None:
    """Documents in one call or one call each: the same sum under a global number of targets."""
    module = tiny(layers=2, seed=5)
    given = spec(module, carry=5)
    docs = [(text(15, 1), [4, 6, 12]), (text(11, 2), [7])]
    _, together = run(module, given, docs, 1, targets=24)
    module.zero_grad()
    model = Model.from_module(module, given)
    for doc in docs:
        tbptt.backward(model, [doc], 1, targets=24)
    assert relative({n: w.grad for n, w in module.named_parameters()}, together) <= BOUND


def test_three_layers_long_text() -> None:
    module = tiny("qwen3", seed=6, kv_heads=3, group=2, head_dim=4)
    given = spec(module, carry=6, retrieval_size=8)
    check(module, given, [(text(30, 6), [6, 9, 17, 22, 27])], 2)


def test_truncations_differ_and_uncut_is_not_truncated() -> None:
    """The bound would catch a gradient of the wrong K."""
    module = tiny(layers=2, seed=7)
    given = spec(module, carry=5)
    docs = [(text(20, 7), [4, 8, 12, 16])]
    grads = [run(module, given, docs, k)[1] for k in range(5)]
    assert all(relative(a, b) > 1e-4 for i, a in enumerate(grads) for b in grads[:i])
    assert relative(run(module, given, docs, 9)[1], grads[4]) <= BOUND


@pytest.mark.parametrize("truncation", [0, 1, 3])
@pytest.mark.parametrize(
    "given_options", [{}, {"carry": 9}, {"sinks": 0}, RECIPES["blocks, all carry"]]
)
def test_k_plus_one_graphs_are_alive(truncation: int, given_options: dict) -> None:
    """Count the segments whose saved activations still exist, however many have been run."""
    module = tiny(layers=2, seed=8)
    given = spec(module, **given_options)
    held: list[tuple[int, weakref.ref]] = []
    passes, most = 0, []

    class Held:
        """One activation that a graph saved for its backward pass."""

        def __init__(self, tensor: Tensor):
            self.tensor = tensor
            held.append((passes, weakref.ref(self)))

    def begin(*_: object) -> None:
        nonlocal passes
        passes += 1

    def count(*_: object) -> None:
        most.append(len({segment for segment, ref in held if ref() is not None}))

    first = module.model.embed_tokens.register_forward_pre_hook(begin)
    last = module.model.layers[1].register_forward_hook(count)
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda box: box.tensor):
        run(module, given, [(text(40, 8), list(range(4, 40, 4)))], truncation)
    first.remove()
    last.remove()
    assert most == [min(n, truncation + 1) for n in range(1, 11)]
    assert all(ref() is None for _, ref in held)
