"""Compare the operator's three forms with each other and with the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lockstep import Model, Spec
from oracle import model as reference
from oracle import retrieval
from torch import Tensor, nn

torch.set_num_threads(1)

FORMS = ("parallel", "steps", "tokens")


@dataclass(frozen=True)
class Bounds:
    """Largest difference of logits: of the three forms, and from the float64 reference."""

    forms: float
    reference: float


BOUNDS = {torch.float64: Bounds(1e-10, 1e-9), torch.float32: Bounds(1e-4, 1e-4)}
#: The default recipe with sinks, in every parity test.
DEFAULT = {"recipe": "anchors", "sinks": 4}


def spec(model: nn.Module, **options) -> Spec:
    """A spec with the default recipe and A = 4; heads mixed, a pool in all layers but the first."""
    config = model.config
    kv_heads = config.num_key_value_heads
    mixed = tuple((layer % kv_heads,) for layer in range(config.num_hidden_layers))
    defaults = {
        "max": 16, "carry": 6, "retrieval_size": 8, "long_heads": mixed,
        "retrieval_layers": tuple(range(1, config.num_hidden_layers)),
    }  # fmt: skip
    return Spec(**(defaults | DEFAULT | options))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().double() for name, weight in model.named_parameters()}


def plain(given: Spec) -> reference.Spec:
    return reference.Spec(
        given.carry, given.sinks, given.retrieval_size, given.recipe, given.retrieval_layers,
        given.long_heads,
    )  # fmt: skip


#: boundary -> layer -> [H_long][R'] pool positions
Retrieved = dict[int, dict[int, list[list[int]]]]


@dataclass
class Result:
    """The reference's logits, what was retrieved, and how often the reference chose otherwise."""

    logits: Tensor
    retrieved: Retrieved
    mismatches: int


def stepped(model: Model, ids: list[int], cuts: list[int], stride: int) -> tuple[Tensor, Retrieved]:
    """Drive the state by hand, as an engine does, ``stride`` tokens a step."""
    state, rows, retrieved = model.state(), [], {}
    for start, end in reference.segments(cuts, len(ids)):
        for at in range(start, end, stride):
            rows.append(model.step(state, ids[at : min(at + stride, end)], rows="all"))
        if end in cuts:
            chosen = model.close(state)
            retrieved[end] = {layer: positions.tolist() for layer, positions in chosen.items()}
    assert state.position == len(ids)
    return torch.cat(rows), retrieved


def check(module: nn.Module, given: Spec, ids: list[int], cuts: list[int]) -> Result:
    """steps = parallel = tokens, and each of them = the reference. -> the reference's numbers

    A retrieval that differs from the reference's is followed by the reference and counted, provided
    that the operator's own queries and keys lead to it by SEMANTICS section 4 and lie within
    rounding of the reference's.
    """
    model = Model.from_module(module, given)
    bounds = BOUNDS[model.dtype]
    oracle = reference.Oracle(weights_of(module), module.config, plain(given))
    trace = model.trace(ids, cuts)
    retrieved = {
        b.at: {layer: p.tolist() for layer, p in b.positions.items()} for b in trace.boundaries
    }
    assert list(retrieved) == cuts
    logits, found, _ = oracle.forward(ids, cuts, replacements(retrieved))
    mismatches = 0
    for ours, theirs in zip(found, trace.boundaries, strict=True):
        for layer, expected in ours.selected.items():
            if not given.long_heads[layer] or not given.retrieval_size:
                assert layer not in theirs.positions
                assert not any(expected)
                continue
            queries, keys = theirs.queries[layer], trace.keys(theirs, layer)
            recent = ours.queries_HQD[layer]
            if given.recipe == "topk":
                recent = recent[:, -1:]
            assert distance(queries, recent) <= bounds.reference
            assert distance(keys, ours.keys_HND[layer]) <= bounds.reference
            got = theirs.positions[layer].tolist()
            # By SEMANTICS from the operator's own numbers: exact, in every type.
            assert got == retrieval.select(
                queries.numpy(), keys.numpy(), given.retrieval_size, given.recipe
            )
            mismatches += got != expected
    first = model.logits(ids, cuts)
    assert first.shape == logits.shape
    for form in FORMS:
        got = model.logits(ids, cuts, form=form)
        assert got.dtype == model.dtype
        assert distance(got, first) <= bounds.forms, form
        assert distance(got, logits) <= bounds.reference, form
    by_hand, theirs = stepped(model, ids, cuts, stride=3)
    assert theirs == retrieved
    assert distance(by_hand, first) <= bounds.forms
    return Result(logits, retrieved, mismatches)


def replacements(retrieved: Retrieved) -> dict[tuple[int, int], list[list[int]]]:
    """As `Oracle.forward` takes them."""
    return {(at, layer): rows for at, layers in retrieved.items() for layer, rows in layers.items()}


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference of two tensors of one shape; 0 where they are empty."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
