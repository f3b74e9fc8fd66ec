"""Scores of heads against independent computations in float64, and the choice made of them."""

from __future__ import annotations

import dataclasses
import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from lockstep import full
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.evaluation.profile import choose, gates, mass, windows
from lockstep.evaluation.profile.partial import Partial
from lockstep.operator.model import Model
from oracle import gates as oracle
from oracle.model import Oracle
from oracle.model import Spec as OracleSpec
from tiny import text, tiny

SIZES = {"max": 6, "carry": 3, "sinks": 2, "retrieval_size": 4, "retrieval_layers": ()}
CUTS = [6, 11, 17]
LENGTH = 22
IDS = text(LENGTH, seed=3)


def model_of(
    architecture: str, recipe: str = "topk", *, seed: int = 0, layers: int = 3, **more: Any
) -> Model:
    module = tiny(architecture, seed=seed, layers=layers, group=3, head_dim=4, hidden=24)
    spec = Spec(**SIZES, recipe=recipe, long_heads=((),) * layers, **more)  # type: ignore[arg-type]
    return Model(module, spec)


def oracle_spec(model: Model) -> OracleSpec:
    names = [f.name for f in dataclasses.fields(OracleSpec)]
    return OracleSpec(**{name: getattr(model.spec, name) for name in names})


def theta_of(model: Model, seed: int = 0) -> torch.Tensor:
    like = gates.start(model)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


@pytest.mark.parametrize(
    ("architecture", "recipe", "truncation", "more"),
    [
        ("llama", "topk", 0, {}),
        ("qwen3", "anchors", 1, {}),
        ("llama", "topk", 2, {}),
        ("llama", "blocks", 1, {"block": 2, "window": 3, "distance": 5, "carry_heads": "all"}),
    ],
)
def test_gradient_of_the_gates_is_that_of_the_definition(
    architecture: str, recipe: str, truncation: int, more: dict[str, Any]
) -> None:
    model = model_of(architecture, recipe, layers=4, **more)
    weights = {name: w.detach() for name, w in model.module.named_parameters()}
    theta = theta_of(model).requires_grad_()
    generator = torch.Generator().manual_seed(9)
    teacher_TE = torch.randn(
        len(IDS), model.config.hidden_size, generator=generator, dtype=torch.float64
    )
    want, want_grad = oracle.gradient(
        weights, model.config, oracle_spec(model), theta, (IDS, CUTS), teacher_TE, 7.0, truncation
    )
    gated = gates.GatedModel(model, theta)
    got = gates.backward(gated, theta, [(IDS, CUTS)], [teacher_TE], 7.0, truncation)
    assert got == pytest.approx(want, rel=1e-12)
    assert theta.grad is not None
    worst = float((theta.grad - want_grad).abs().max() / want_grad.abs().max())
    assert worst < 1e-10


def test_truncation_changes_the_gradient() -> None:
    """Layer by layer: a gate reaches a later segment through the carry of the layers above it."""
    model = model_of("llama", layers=4)
    teacher_TE = full.hidden(model, IDS)
    found = []
    for truncation in (0, 1, 2):
        theta = theta_of(model).requires_grad_()
        gated = gates.GatedModel(model, theta)
        gates.backward(gated, theta, [(IDS, CUTS)], [teacher_TE], 7.0, truncation)
        found.append(theta.grad)
    for a, b in itertools.pairwise(found):
        assert a is not None and b is not None
        assert float((a - b).abs().max()) > 1e-6


def test_gates_that_are_shut_or_open_are_the_operator_itself() -> None:
    model = model_of("llama")
    rng = random.Random(4)
    rows = [[rng.choice([-1000.0, 1000.0]) for _ in range(2)] for _ in range(2)]
    gated = gates.GatedModel(model, torch.tensor(rows, dtype=torch.float64))
    long = tuple(tuple(h for h in range(2) if row[h] > 0) for row in rows)
    layers = tuple(layer for layer, heads in enumerate(long, 1) if heads)
    assert 0 < sum(map(len, long)) < 4
    plain = Model(
        model.module,
        dataclasses.replace(model.spec, long_heads=((), *long), retrieval_layers=layers),
    )
    got = gated.hidden(IDS, CUTS, form="steps")
    torch.testing.assert_close(got, plain.hidden(IDS, CUTS, form="steps"), rtol=0, atol=1e-12)
    with pytest.raises(AssertionError, match="step by step"):
        gated.hidden(IDS, CUTS)


def test_training_finds_the_head_that_must_be_long() -> None:
    """The teacher is the model with one head long: that gate opens, the others close."""
    model = model_of("llama", seed=1)
    teacher = Model(
        model.module,
        dataclasses.replace(model.spec, long_heads=((), (), (1,)), retrieval_layers=(2,)),
    )
    theta = gates.start(model)
    gated = gates.GatedModel(model, theta)
    optimizer = torch.optim.Adam([theta], lr=0.3)
    docs = [(text(LENGTH, seed=seed), CUTS) for seed in range(2)]
    aims = [teacher.hidden(ids, cuts) for ids, cuts in docs]
    local = [model.hidden(ids, cuts) for ids, cuts in docs]
    lost = sum(gates.distance(x, y) for x, y in zip(local, aims, strict=True))
    for _ in range(25):
        optimizer.zero_grad()
        error = gates.backward(gated, theta, docs, aims, lost, 1)
        optimizer.step()
    gate = theta.detach().sigmoid()
    assert error < 0.5
    assert gate[1, 1] > 0.8
    assert float(torch.cat((gate[0], gate[1, :1])).max()) < 0.4


def test_resumed_training_ends_with_the_same_gates() -> None:
    docs = [(text(LENGTH, seed=seed), CUTS) for seed in range(4)]
    whole = gates.GateTraining(model_of("llama"), len(docs), 0.05, 1)
    for ids, cuts in docs:
        whole.step(ids, cuts)
    begun = gates.GateTraining(model_of("llama"), len(docs), 0.05, 1)
    for ids, cuts in docs[:2]:
        begun.step(ids, cuts)
    resumed = gates.GateTraining(model_of("llama"), len(docs), 0.05, 1)
    resumed.load(begun.state())
    for ids, cuts in docs[2:]:
        resumed.step(ids, cuts)
    assert resumed.scores() == whole.scores()
    assert resumed.curve == whole.curve
    assert whole.scores()[0] == [0.0, 0.0]
    assert not any(weight.requires_grad for weight in whole.model.module.parameters())


def test_the_penalty_closes_gates() -> None:
    means = []
    for penalty in (0.0, 5.0):
        training = gates.GateTraining(model_of("llama"), 6, penalty, 1)
        for seed in range(6):
            training.step(text(LENGTH, seed=seed), CUTS)
        means.append(sum(map(sum, training.scores())))
    assert means[1] < means[0] - 0.1


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_mass_is_that_of_full_attention(architecture: str, monkeypatch) -> None:
    model = model_of(architecture)
    weights = {name: w.detach() for name, w in model.module.named_parameters()}
    want, queries = oracle.mass(Oracle(weights, model.config, oracle_spec(model)), IDS, CUTS)
    monkeypatch.setattr(mass, "ELEMENTS", 6 * LENGTH * 7)  # several blocks of queries
    got, count = mass.measure(model, IDS, CUTS)
    assert count == queries == len(IDS) - CUTS[0]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-12)
    assert float(got.min()) > 0.1


def test_the_choice_is_the_best_of_all() -> None:
    """Against every choice there is."""
    rng = random.Random(0)
    for _ in range(30):
        L, H = rng.randint(3, 4), rng.randint(1, 3)
        scores = [[rng.choice([0.0, 0.25, 0.5, rng.random()]) for _ in range(H)] for _ in range(L)]
        n = rng.randint(1, L - 1)
        k = rng.randint(n, n * H)
        places = [(layer, h) for layer in range(1, L) for h in range(H)]
        allowed = (
            some
            for some in itertools.combinations(places, k)
            if len({layer for layer, _ in some}) == n
        )
        want = max(sum(scores[layer][h] for layer, h in some) for some in allowed)
        long = choose.best(scores, k, n)
        assert long[0] == [] and all(heads == sorted(set(heads)) for heads in long)
        assert sum(map(len, long)) == k and sum(map(bool, long)) == n
        got = sum(scores[layer][h] for layer, heads in enumerate(long) for h in heads)
        assert got == pytest.approx(want, abs=1e-12)


def test_equal_scores_go_to_earlier_layers_and_lower_heads() -> None:
    assert choose.best([[1.0] * 3] * 4, 4, 2) == choose.best([[0.5] * 3] * 4, 4, 2)
    long = choose.best([[1.0] * 3] * 5, 3, 1)
    assert long == [[], [0, 1, 2], [], [], []]


def test_rules() -> None:
    assert choose.first(5, 3, 4, 2) == [[], [0, 1], [0, 1], [], []]
    assert choose.first(5, 3, 5, 2) == [[], [0, 1, 2], [0, 1], [], []]
    chosen = choose.even(30, 3, 18, 6)
    assert [layer for layer, heads in enumerate(chosen) if heads] == [3, 8, 13, 17, 22, 27]
    assert choose.even(4, 2, 6, 3) == [[], [0, 1], [0, 1], [0, 1]]
    with pytest.raises(LockstepError, match="expected 1 to 4 layers"):
        choose.even(5, 3, 5, 5)
    with pytest.raises(LockstepError, match="expected 2 to 6 heads"):
        choose.first(5, 3, 7, 2)


def test_lengths_that_measure_nothing_are_refused() -> None:
    model = model_of("llama")  # S 6, A 2, M 3; a context of 128
    windows.check_length(model, 12)
    windows.check_length(model, 128)
    for length in (11, 129):
        with pytest.raises(LockstepError, match=r"from 12 .* to 128"):
            windows.check_length(model, length)


def test_a_partial_result_is_taken_by_the_same_measurement_only(tmp_path: Path) -> None:
    out = tmp_path / "heads.json"
    partial = Partial(out, {"seed": 1, "files": ("a",)})
    assert partial.read() is None
    state = {"theta": [[0.1, -1e-17]], "done": 2}
    partial.write(state)
    assert Partial(out, {"seed": 1, "files": ["a"]}).read() == state
    assert Partial(out, {"seed": 2, "files": ["a"]}).read() is None
    partial.path.write_text(partial.path.read_text()[:-4])  # cut off
    assert partial.read() is None


def test_memory_of_the_mass_is_bounded_by_blocks(monkeypatch) -> None:
    """One query at a time gives what all at once give."""
    model = model_of("llama")
    whole, _ = mass.measure(model, IDS, CUTS)
    monkeypatch.setattr(mass, "ELEMENTS", 1)
    single, _ = mass.measure(model, IDS, CUTS)
    torch.testing.assert_close(single, whole, rtol=0, atol=1e-13)
