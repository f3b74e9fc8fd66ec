"""The gradient with targets that do not count, and with documents that take turns in the passes."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from lockstep import Model, full, tbptt
from lockstep.operator.contexts import packed_spans
from lockstep.training import document_starts
from oracle.gradient import gradient
from parity import RECIPES, plain, spec, weights_of
from test_gradient import BOUND, Document, run
from test_gradient_oracle import relative
from tiny import text, tiny

torch.set_num_threads(1)
# Conversations of one to five segments, and a document of one token.
DOCS: list[Document] = [
    (text(15, 1), [4, 6, 12]), (text(6, 2), []), (text(9, 3), [2, 9]), (text(1, 4), []),
    (text(7, 5), [3]), (text(19, 6), [4, 8, 12, 16]), (text(3, 7), []),
]  # fmt: skip


def masks_of(docs: list[Document], seed: int) -> list[list[bool]]:
    """About a third of the tokens, in runs; the fourth document counts whole, the fifth nowhere."""
    rng = random.Random(seed)
    out: list[list[bool]] = []
    for ids, _ in docs:
        mask: list[bool] = []
        while len(mask) < len(ids):
            mask += [rng.random() < 0.4] * rng.randint(1, 4)
        out.append(mask[: len(ids)])
    out[3] = [True] * len(docs[3][0])
    out[4] = [False] * len(docs[4][0])
    return out


@pytest.mark.parametrize("truncation", [0, 1, 2])
@pytest.mark.parametrize("recipe", ["anchors", "blocks, all carry"])
def test_masks(truncation: int, recipe: str) -> None:
    module = tiny(layers=2, seed=11)
    options = {"carry": 5, "retrieval_layers": (1,), "retrieval_size": 4}
    given = spec(module, **RECIPES[recipe] | options)
    for seed in range(3):
        masks = masks_of(DOCS, seed)
        for targets in (None, 100):
            total, count, expected = gradient(
                weights_of(module), module.config, plain(given), DOCS, truncation, targets, masks
            )
            loss, grads = run(module, given, DOCS, truncation, masks=masks, targets=targets)
            assert loss.targets == count == sum(sum(mask[1:]) for mask in masks)
            assert abs(loss.sum - total) <= 1e-11 * abs(total)
            assert relative(grads, expected) <= BOUND


@pytest.mark.parametrize("truncation", [0, 1, 2])
def test_segments_without_a_target_before_one_that_has_some(truncation: int) -> None:
    """Long prompts: what is not run backwards is what gets no gradient."""
    module = tiny(layers=2, seed=12)
    given = spec(module, carry=5)
    docs = [(text(24, 8), [4, 8, 12, 16, 20])]
    masks = [[at >= 20 or at == 3 for at in range(24)]]
    total, _, expected = gradient(
        weights_of(module), module.config, plain(given), docs, truncation, None, masks
    )
    loss, grads = run(module, given, docs, truncation, masks=masks)
    assert abs(loss.sum - total) <= 1e-11 * abs(total)
    assert relative(grads, expected) <= BOUND
    # The mask is what made it so.
    assert relative(run(module, given, docs, truncation)[1], expected) > 1e-3


@pytest.mark.parametrize("truncation", [0, 1, 2])
@pytest.mark.parametrize("most", [6, 9, 20])
def test_packed_documents_equal_separate_ones(truncation: int, most: int) -> None:
    module = tiny(layers=2, seed=13)
    for recipe in ("anchors", "blocks, all carry"):
        options = {"carry": 5, "retrieval_layers": (1,), "retrieval_size": 4}
        given = spec(module, **RECIPES[recipe] | options)
        masks = masks_of(DOCS, 4)
        total, count, expected = gradient(
            weights_of(module), module.config, plain(given), DOCS, truncation, None, masks
        )
        loss, packed = run(module, given, DOCS, truncation, masks=masks, most=most)
        assert loss.targets == count and abs(loss.sum - total) <= 1e-11 * abs(total)
        assert relative(packed, expected) <= BOUND
        module.zero_grad()
        model = Model.from_module(module, given)
        for doc, mask in zip(DOCS, masks, strict=True):
            tbptt.backward(model, [doc], truncation, count, masks=[mask])
        alone = {n: w.grad for n, w in module.named_parameters()}
        assert relative(packed, alone) <= BOUND
        # A neighbour that is another changes nothing of a document: here its targets are taken out.
        silent = [mask if d % 2 else [False] * len(mask) for d, mask in enumerate(masks)]
        module.zero_grad()
        some = run(module, given, DOCS, truncation, masks=silent, most=most, targets=count)[1]
        module.zero_grad()
        odd = [d for d in range(len(DOCS)) if d % 2]
        few = run(
            module, given, [DOCS[d] for d in odd], truncation, masks=[masks[d] for d in odd],
            targets=count,
        )[1]  # fmt: skip
        assert relative(some, few) <= BOUND


def test_the_control_counts_the_same_targets() -> None:
    module = tiny(layers=2, seed=14)
    model = Model.from_module(module, spec(module))
    masks = masks_of(DOCS, 5)
    loss = full.backward(model, DOCS, masks=masks)
    got = {n: w.grad.clone() for n, w in module.named_parameters()}
    module.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for (ids, _), mask in zip(DOCS, masks, strict=True):
        logp = module(torch.tensor([ids])).logits[0].log_softmax(-1)
        for t in range(len(ids) - 1):
            if mask[t + 1]:
                total = total - logp[t, ids[t + 1]]
    (total / loss.targets).backward()
    assert loss.targets == sum(sum(mask[1:]) for mask in masks)
    # transformers' own norms go through float32 unless Model replaced them, as it did here.
    assert relative(got, {n: w.grad for n, w in module.named_parameters()}) <= BOUND


def test_a_mask_of_another_length_is_refused() -> None:
    module = tiny(layers=2, seed=15)
    with pytest.raises(ValueError, match="a mask of 2 for 15 tokens"):
        tbptt.backward(Model.from_module(module, spec(module)), DOCS[:1], 1, masks=[[True, False]])


def test_a_pass_holds_no_more_than_it_may() -> None:
    rng = random.Random(3)
    for _ in range(200):
        most = rng.randint(4, 40)
        docs = []
        for _ in range(rng.randint(1, 30)):
            length = rng.randint(1, 60)
            cuts = sorted(rng.sample(range(1, length + 1), rng.randint(0, min(4, length))))
            docs.append([piece.length for piece in packed_spans(length, cuts)])
        begun = document_starts.starts(docs, most)
        count = document_starts.passes(docs, most)
        loads = [
            [one[i - at] for at, one in zip(begun, docs, strict=True) if at <= i < at + len(one)]
            for i in range(count)
        ]
        assert all(loads)
        assert all(sum(load) <= most or len(load) == 1 for load in loads)
        assert sum(map(sum, loads)) == sum(map(sum, docs))
    assert document_starts.starts(docs, None) == [0] * len(docs)
    # Short ones fill their passes: no two neighbours would have fitted into one.
    ones = [[rng.randint(1, 10)] for _ in range(100)]
    begun = document_starts.starts(ones, 40)
    sums = [sum(n for at, (n,) in zip(begun, ones, strict=True) if at == i) for i in set(begun)]
    assert all(a + b > 40 for a, b in pairwise(sums))
