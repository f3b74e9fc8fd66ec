"""Random models, contracts, texts and cuts: forms = reference, trainer = separate graphs.

The strategy is weighted so that the default recipe (anchors) with A = 4 is about half of what runs;
long heads carry in half of it.
"""

from __future__ import annotations

import parity
import test_gradient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lockstep import Spec
from tiny import ARCHITECTURES, ROPES, text, tiny


@st.composite
def lengths(draw: st.DrawFn, most: int) -> tuple[int, list[int]]:
    """Number of tokens, and cuts that make segments of many lengths."""
    parts = draw(st.lists(st.one_of(st.integers(1, 3), st.integers(1, 20)), min_size=1, max_size=6))
    cuts, at = [], 0
    for part in parts:
        if at + part > most:
            break
        at += part
        cuts.append(at)
    if not cuts:
        return min(parts[0], most), []
    return (cuts[-1], cuts) if draw(st.booleans()) else (cuts[-1] + 1, cuts)


@st.composite
def worlds(draw: st.DrawFn, most: int):
    layers, kv_heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    module = tiny(
        draw(st.sampled_from(ARCHITECTURES)),
        seed=draw(st.integers(0, 999)),
        layers=layers,
        kv_heads=kv_heads,
        group=draw(st.integers(1, 3)),
        head_dim=draw(st.sampled_from([4, 8])),
        rope=draw(st.sampled_from(sorted(ROPES))),
        tied=draw(st.booleans()),
        bias=draw(st.booleans()),
    )
    recipe, sinks = draw(
        st.one_of(
            st.just(("anchors", 4)),
            st.tuples(st.sampled_from(["anchors", "topk", "blocks"]), st.integers(0, 12)),
        )
    )
    carry, block = draw(st.integers(0, 30)), draw(st.integers(1, 9))
    size = draw(st.integers(0, 24))
    heads = st.lists(st.integers(0, kv_heads - 1), unique=True).map(lambda h: tuple(sorted(h)))
    spec = Spec(
        max=20,
        carry=carry,
        sinks=sinks,
        retrieval_size=size // block * block if recipe == "blocks" else size,
        recipe=recipe,
        retrieval_layers=tuple(draw(st.lists(st.integers(0, layers - 1), unique=True).map(sorted))),
        long_heads=tuple(draw(heads) for _ in range(layers)),
        carry_heads=draw(st.sampled_from(["local", "all"])) if carry else "local",
        block=block,
        distance=draw(st.integers(0, 40)),
        window=draw(st.sampled_from([1, 3, 8, 64])),
    )
    length, cuts = draw(lengths(most))
    return module, spec, text(length, draw(st.integers(0, 999))), cuts


quick = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@settings(quick, max_examples=40)
@given(worlds(50))
def test_the_forms_are_the_reference(world) -> None:
    module, spec, ids, cuts = world
    assert parity.check(module, spec, ids, cuts).mismatches == 0


@settings(quick, max_examples=25)
@given(worlds(22), st.integers(0, 3))
def test_the_trainer_is_the_separate_graphs(world, truncation: int) -> None:
    module, spec, ids, cuts = world
    if len(ids) > 1:
        test_gradient.check(module, spec, [(ids, cuts)], truncation)
