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
#: SEMANTICS: the forms agree to 1e-10, and with the independent reference to 1e-9.
FORM_BOUND, REFERENCE_BOUND = 1e-10, 1e-9
#: The default recipe with sinks, in every parity test.
DEFAULT = {"recipe": "anchors", "sinks": 4}


def spec(model: nn.Module, **options) -> Spec:
    """A spec with the default recipe and A = 4; heads mixed and layers 1 and 2 with a pool."""
    config = model.config
    kv_heads = config.num_key_value_heads
    mixed = tuple((layer % kv_heads,) for layer in range(config.num_hidden_layers))
    defaults = {
        "max": 16, "carry": 6, "retrieval_size": 8, "retrieval_layers": (1, 2), "long_heads": mixed,
    }  # fmt: skip
    return Spec(**(defaults | DEFAULT | options))


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().double() for name, weight in model.named_parameters()}


def plain(given: Spec) -> reference.Spec:
    return reference.Spec(
        given.carry, given.sinks, given.retrieval_size, given.recipe, given.retrieval_layers,
        given.long_heads,
    )  # fmt: skip


@dataclass
class Result:
    logits: Tensor
    #: boundary -> layer -> [H_long][R'] pool positions
    retrieved: dict[int, dict[int, list[list[int]]]]
    mismatches: int


def stepped(model: Model, ids: list[int], cuts: list[int], stride: int | None) -> Result:
    """Drive the state by hand, as an engine does: ``stride`` tokens a step, None for a segment."""
    state, rows, retrieved = model.state(), [], {}
    for start, end in reference.segments(cuts, len(ids)):
        step = stride or end - start
        for at in range(start, end, step):
            rows.append(model.step(state, ids[at : min(at + step, end)], rows="all"))
        if end in cuts:
            chosen = model.close(state)
            retrieved[end] = {layer: positions.tolist() for layer, positions in chosen.items()}
    assert state.position == len(ids)
    return Result(torch.cat(rows), retrieved, 0)


def check(module: nn.Module, given: Spec, ids: list[int], cuts: list[int]) -> Result:
    """steps = parallel = tokens, and each of them = the reference. -> the reference's numbers

    A retrieval that differs from the reference's is followed by the reference and counted, provided
    that the operator's own queries and keys lead to it by SEMANTICS section 4 and lie within
    rounding of the reference's.
    """
    model = Model.from_module(module, given)
    oracle = reference.Oracle(weights_of(module), module.config, plain(given))
    trace = model.trace(ids, cuts)
    retrieved = {
        b.at: {layer: p.tolist() for layer, p in b.positions.items()} for b in trace.boundaries
    }
    assert list(retrieved) == cuts
    replace = {(at, n): rows for at, by_layer in retrieved.items() for n, rows in by_layer.items()}
    logits, found, _ = oracle.forward(ids, cuts, replace)
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
            assert close(queries, recent) and close(keys, ours.keys_HND[layer])
            got = theirs.positions[layer].tolist()
            if got != expected:
                mismatches += 1
                assert got == retrieval.select(
                    queries.numpy(), keys.numpy(), given.retrieval_size, given.recipe
                )
    for form in FORMS:
        got = model.logits(ids, cuts, form=form)
        assert got.dtype == torch.float64 and got.shape == logits.shape
        if form == "parallel":
            first = got
        assert distance(got, first) <= FORM_BOUND, form
        assert distance(got, logits) <= REFERENCE_BOUND, form
    for stride in (None, 1, 3):
        by_hand = stepped(model, ids, cuts, stride)
        assert by_hand.retrieved == retrieved, stride
        assert distance(by_hand.logits, first) <= FORM_BOUND, stride
    return Result(logits, retrieved, mismatches)


def close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and (a.numel() == 0 or float((a - b).abs().max()) < REFERENCE_BOUND)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())
