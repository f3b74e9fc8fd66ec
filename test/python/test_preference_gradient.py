"""The gradient of preference training against the oracle; a shared prompt changes nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lockstep import Model
from lockstep.training import tbptt
from lockstep.training.answers import Row, log_probs, shared_prefix, shared_segments
from lockstep.training.data import TrainSequence
from lockstep.training.preference import Preferences
from lockstep.training.settings import Dpo
from oracle.gradient import gradient
from oracle.model import Oracle
from parity import RECIPES, plain, spec, weights_of
from test_gradient import BOUND
from test_gradient_oracle import relative
from tiny import text, tiny

torch.set_num_threads(1)


def row(prompt: int, cuts: list[int], lengths: tuple[int, int], seed: int, slot: int = 0) -> Row:
    """One prompt of ``prompt`` tokens with two answers; cuts are those of both where they reach."""
    begun = text(prompt, seed)
    out = []
    for n, length in enumerate(lengths):
        answer = text(length, 100 * seed + n)
        # Answers differ from their first token on.
        ids = [*begun, (answer[0] + 2 * n) % 50, *answer[1:]]
        mask = [at >= prompt for at in range(len(ids))]
        out.append(TrainSequence(ids, [cut for cut in cuts if cut <= len(ids)], mask, slot))
    return out[0], out[1]


#: Prompts of 0 to 4 whole segments; answers in the open segment, over several, and of one token.
ROWS = [
    row(14, [4, 8, 12, 16, 20, 24], (7, 3), 1),
    row(3, [5, 9], (4, 9), 2),
    row(16, [4, 8, 12, 16, 20], (1, 6), 3),
    row(9, [2, 4, 6, 9, 12], (5, 5), 4),
]
#: Fewer for the oracle, which builds a graph for each segment.
FEW = [row(10, [4, 8, 12], (4, 2), 5), ROWS[1], row(6, [2, 4, 6, 8], (1, 3), 6)]


def settings(recipe: str) -> dict[str, Any]:
    options = {"carry": 5, "retrieval_layers": (1,), "retrieval_size": 4}
    return RECIPES[recipe] | options


def log_p(weights: Any, config: Any, given: Any, one: TrainSequence) -> float:
    """log p of the tokens that count, by the oracle's forward pass."""
    logits, _, _ = Oracle(weights, config, given).forward(one.ids, one.boundaries)
    logp_TV = torch.as_tensor(logits).log_softmax(-1)
    assert one.mask is not None
    return float(sum(logp_TV[t - 1, one.ids[t]] for t in range(1, len(one.ids)) if one.mask[t]))


def expected(
    rows: Sequence[Row], given: Any, reference: Any, module: Any, truncation: int, dpo: Dpo
) -> tuple[float, list[float], dict[str, torch.Tensor]]:
    """Mean loss, margins and gradient, each answer as a document of its own, by the oracle."""
    losses, margins = [], []
    total = {name: torch.zeros_like(w) for name, w in weights_of(module).items()}
    for pair in rows:
        gained, grads = [], []
        for one in pair:
            doc = [(one.ids, one.boundaries)]
            count = sum(one.mask[1:]) if dpo.lengthNormalized else 1
            mine, _, grad = gradient(
                weights_of(module), module.config, plain(given), doc, truncation, count, [one.mask]
            )
            theirs = -log_p(weights_of(reference), module.config, plain(given), one)
            gained.append((theirs - mine) / count)
            grads.append(grad)
        margin = dpo.beta * (gained[0] - gained[1])
        losses.append(math.log1p(math.exp(-margin)))
        margins.append(margin)
        factor = dpo.beta / (1 + math.exp(margin)) / len(rows)
        for name in total:
            total[name] += factor * (grads[0][name] - grads[1][name])
    return sum(losses) / len(losses), margins, total


@pytest.mark.parametrize(
    ("truncation", "recipe", "normalized"),
    [(0, "blocks, all carry", True), (1, "anchors", False), (2, "blocks, all carry", False)],
)
def test_the_gradient_is_the_oracle_s(truncation: int, recipe: str, normalized: bool) -> None:
    module, started = tiny(layers=2, seed=21), tiny(layers=2, seed=22)
    given = spec(module, **settings(recipe))
    dpo = Dpo(0.3, normalized)
    before = Model.from_module(started, given)

    def reference(rows: Sequence[Row]) -> list[tuple[float, float]]:
        return log_probs(before, rows, "segmented", None)

    objective = Preferences(
        Model.from_module(module, given), "segmented", truncation, "float32", False, dpo, reference
    )
    docs = [one for pair in FEW for one in pair]
    sums = objective.backward(docs, objective.count(docs))
    got = {name: w.grad for name, w in module.named_parameters()}
    loss, margins, grads = expected(FEW, given, started, module, truncation, dpo)
    assert abs(sums[0] / len(FEW) - loss) <= 1e-11 * loss
    assert abs(sums[1] - sum(margins)) <= 1e-10 * max(map(abs, margins))
    assert sums[2] == sum(margin > 0 for margin in margins)
    assert relative(got, grads) <= BOUND


def test_shared_segments_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = tiny(layers=2, seed=23)
    model = Model.from_module(module, spec(module, **settings("anchors")))
    assert [shared_segments(pair) for pair in ROWS] == [3, 0, 3, 3]
    docs = [(one.ids, one.boundaries) for pair in ROWS for one in pair]
    masks = [one.mask for pair in ROWS for one in pair]
    scales = [0.5, -0.5] * len(ROWS)
    shared: list[Any] = []
    for n, pair in enumerate(ROWS):
        shared += [None, (2 * n, shared_segments(pair)) if shared_segments(pair) else None]
    seen = 0
    forward = Model.forward

    def counting(self: Model, ids_T: torch.Tensor, context: Any) -> torch.Tensor:
        nonlocal seen
        seen += len(ids_T)
        return forward(self, ids_T, context)

    monkeypatch.setattr(Model, "forward", counting)
    found = []
    for forks in (None, shared):
        for most in (None, 6):
            module.zero_grad()
            seen = 0
            tbptt.backward(model, docs, 2, masks=masks, scales=scales, shared=forks, most=most)
            found.append(({n: w.grad.clone() for n, w in module.named_parameters()}, seen))
    everything = sum(len(ids) for ids, _ in docs)
    assert [tokens for _, tokens in found] == [everything] * 2 + [everything - 12 - 12 - 6] * 2
    for grads, _ in found[1:]:
        assert relative(grads, found[0][0]) <= BOUND
    seen = 0
    log_probs(model, ROWS, "segmented", 6)
    assert seen == everything - sum(shared_prefix(pair) for pair in ROWS)


def test_log_probs_are_those_of_whole_sequences() -> None:
    module = tiny(layers=2, seed=24)
    model = Model.from_module(module, spec(module, **settings("blocks, all carry")))
    for most in (None, 5):
        for pair, found in zip(ROWS, log_probs(model, ROWS, "segmented", most), strict=True):
            for one, value in zip(pair, found, strict=True):
                nll_T = model.nll(one.ids, one.boundaries)
                whole = -float(nll_T[torch.tensor(one.mask[1:])].sum())
                assert abs(value - whole) <= 1e-11 * abs(whole)


def test_the_control_has_the_gradient_of_full_attention() -> None:
    module, started = tiny(layers=2, seed=25), tiny(layers=2, seed=26)
    given = spec(module)
    before = Model.from_module(started, given)
    dpo = Dpo(0.2, True)
    objective = Preferences(
        Model.from_module(module, given), "full", 1, "float32", False, dpo,
        lambda rows: log_probs(before, rows, "full", None),
    )  # fmt: skip
    docs = [one for pair in ROWS for one in pair]
    objective.backward(docs, len(ROWS))
    got = {name: w.grad.clone() for name, w in module.named_parameters()}
    module.zero_grad()
    total = torch.zeros((), dtype=torch.float64)
    for pair in ROWS:
        gained = []
        for one in pair:
            ids, mask = torch.tensor([one.ids]), torch.tensor(one.mask[1:])
            logp = [
                m(ids).logits[0].log_softmax(-1)[:-1].gather(1, ids[0, 1:, None])[:, 0][mask].mean()
                for m in (module, started)
            ]
            gained.append(logp[0] - logp[1].detach())
        total = total - torch.nn.functional.logsigmoid(dpo.beta * (gained[0] - gained[1]))
    (total / len(ROWS)).backward()
    assert relative(got, {n: w.grad for n, w in module.named_parameters()}) <= BOUND
