"""Compare the operator's three forms with each other and with the reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lockstep import Model, Spec
from lockstep import retrieval as product
from lockstep.operator.model import Trace
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
#: Options of a spec that each recipe is tested with: small blocks, and a carry in all heads.
RECIPES = {
    "anchors": {"recipe": "anchors"},
    "topk": {"recipe": "topk"},
    "topk, all carry": {"recipe": "topk", "carry_heads": "all"},
    "blocks": {"recipe": "blocks", "block": 4, "distance": 11, "window": 6},
    "blocks, all carry": {
        "recipe": "blocks", "block": 4, "distance": 11, "window": 64, "carry_heads": "all",
    },
}  # fmt: skip
#: Two masses of blocks closer than this, relatively, are a near-tie; rounding decides.
NEAR_TIE = {torch.float64: 1e-12, torch.float32: 1e-4}
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
        given.long_heads, given.carry_heads, given.block, given.distance, given.window,
    )  # fmt: skip


#: boundary -> layer -> [H_long][R'] pool positions
Retrieved = dict[int, dict[int, list[list[int]]]]


@dataclass
class Result:
    """The reference's logits, what was retrieved, and how often the reference chose otherwise."""

    logits: Tensor
    retrieved: Retrieved
    mismatches: int


def stepped(
    model: Model, ids: list[int], cuts: list[int], stride: int, trace: Trace | None = None
) -> tuple[Tensor, Retrieved]:
    """Drive the state by hand, as an engine does, ``stride`` tokens a step.

    With ``trace`` go on with its choices, the state's own being no more than a near-tie away.
    """
    traced = {} if trace is None else {b.at: b for b in trace.boundaries}
    state, rows, retrieved = model.state(), [], {}
    for start, end in reference.segments(cuts, len(ids)):
        for at in range(start, end, stride):
            rows.append(model.step(state, ids[at : min(at + stride, end)], rows="all"))
        if end in cuts:
            selected = model.close(state)
            retrieved[end] = {layer: lists(positions) for layer, positions in selected.items()}
            for layer, positions in selected.items() if trace else ():
                given, b = model.spec, traced[end]
                gap = product.deciding_gap(
                    b.queries[layer], trace.keys(b, layer), given.retrieval_size, given.recipe,
                    positions, given.block,
                )  # fmt: skip
                assert gap <= NEAR_TIE[model.dtype]
            if trace:
                state.replace_retrieved(traced[end].positions)
    assert state.position == len(ids)
    return torch.cat(rows), retrieved


def check(
    module: nn.Module, given: Spec, ids: list[int], cuts: list[int], near_ties: bool = False
) -> Result:
    """steps = parallel = tokens, and each of them = the reference. -> the reference's numbers

    A retrieval that differs from the reference's is followed by the reference and counted, provided
    that the operator's own queries and keys lead to it by SEMANTICS section 4 and lie within
    rounding of the reference's. ``near_ties``: so may the forms choose otherwise, and are followed.
    """
    model = Model.from_module(module, given)
    bounds = BOUNDS[model.dtype]
    oracle = reference.Oracle(weights_of(module), module.config, plain(given))
    trace = model.trace(ids, cuts)
    retrieved = {
        b.at: {layer: lists(p) for layer, p in b.positions.items()} for b in trace.boundaries
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
            got = lists(theirs.positions[layer])
            # By SEMANTICS from the operator's own numbers: exact, in every type.
            if given.recipe == "blocks":
                check_blocks(got, queries, keys, given, NEAR_TIE[model.dtype])
            else:
                assert got == retrieval.select(
                    queries.numpy(), keys.numpy(), given.retrieval_size, given.recipe
                )
            mismatches += got != expected
    first = model.logits(ids, cuts)
    assert first.shape == logits.shape
    assert distance(first, logits) <= bounds.reference
    if near_ties:
        for stride in (1, 3, given.max):
            followed, _ = stepped(model, ids, cuts, stride, trace)
            assert distance(followed, first) <= bounds.forms
        return Result(logits, retrieved, mismatches)
    for form in FORMS:
        got = model.logits(ids, cuts, form=form)
        assert got.dtype == model.dtype
        assert distance(got, first) <= bounds.forms, form
        assert distance(got, logits) <= bounds.reference, form
    by_hand, theirs = stepped(model, ids, cuts, stride=3)
    assert theirs == retrieved
    assert distance(by_hand, first) <= bounds.forms
    return Result(logits, retrieved, mismatches)


def lists(positions: Tensor) -> list[list[int]]:
    """Pool positions of every head; -1 stands before a shorter head's."""
    return [[n for n in row if n >= 0] for row in positions.tolist()]


def check_blocks(
    got: list[list[int]], queries: Tensor, keys: Tensor, given: Spec, near: float
) -> None:
    """The heaviest blocks from these numbers, except that near-ties may change places."""
    for own, queries_gQD, keys_ND in zip(got, queries.double(), keys.double(), strict=True):
        logits = (queries_gQD.flatten(0, 1) @ keys_ND.T).numpy()
        rows = len(keys_ND)
        if own == retrieval.select_blocks(logits, given.retrieval_size, given.block):
            continue
        masses = retrieval.block_masses(logits, given.block)
        selected = sorted({n // given.block for n in own})
        assert own == [n for b in selected for n in range(rows)[b * given.block :][: given.block]]
        assert len(selected) == given.retrieval_size // given.block
        heaviest = max(mass for b, mass in enumerate(masses) if b not in selected)
        assert heaviest - min(masses[b] for b in selected) <= near * heaviest


def replacements(retrieved: Retrieved) -> dict[tuple[int, int], list[list[int]]]:
    """As `Oracle.forward` takes them."""
    return {(at, layer): rows for at, layers in retrieved.items() for layer, rows in layers.items()}


def distance(a: Tensor, b: Tensor) -> float:
    """Largest difference of two tensors of one shape; 0 where they are empty."""
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
