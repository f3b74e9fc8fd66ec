"""Mathematical ties below layer 0: the last bit decides, and that is a near-tie, not a tie.

With M = A = 0 equal segments of a repeated text have equal contexts, so their keys are equal in
every layer whose layers below retrieve nothing. In layer 0 they are equal to the bit
(`lockstep.operator.batch_invariant`); deeper, each form of the operator rounds them its own way.
"""

from __future__ import annotations

import pytest
import torch
from lockstep import Model, Spec, Trace, retrieval
from lockstep.contract.spec import Recipe
from oracle import model as reference
from parity import BOUNDS, distance
from tiny import text, tiny
from torch import Tensor

torch.set_num_threads(1)
IDS = text(12, 1) * 20
#: As wide as rounding makes scores of equal keys, in units of |q| |k|.
ROUNDING = 1e-14


def world(
    long: tuple[tuple[int, ...], ...], cut: int, recipe: Recipe, seed: int
) -> tuple[Model, list[int]]:
    module = tiny(layers=len(long), kv_heads=2, group=1, seed=seed)
    spec = Spec(
        max=32,
        carry=0,
        sinks=0,
        retrieval_size=8,
        recipe=recipe,
        retrieval_layers=tuple(range(len(long))),
        long_heads=long,
    )
    return Model.from_module(module, spec), list(range(cut, len(IDS), cut))


def forced(model: Model, cuts: list[int], trace: Trace, stride: int) -> tuple[Tensor, list[float]]:
    """A run ``stride`` tokens a step that goes on with the trace's rows, as `verify` makes engines.

    Returns its logits, and the gap of every head that would have retrieved others.
    """
    state, rows, gaps = model.state(), [], []
    segments = zip(reference.segments(cuts, len(IDS)), [*trace.boundaries, None], strict=True)
    for (start, end), boundary in segments:
        for at in range(start, end, stride):
            rows.append(model.step(state, IDS[at : min(at + stride, end)], rows="all"))
        if boundary is None:
            break
        for layer, retrieved_HR in model.close(state).items():
            queries_HQD, keys_HND = boundary.queries[layer], trace.keys(boundary, layer)
            for h in (retrieved_HR != boundary.positions[layer]).any(-1).nonzero()[:, 0].tolist():
                one = queries_HQD[h : h + 1], keys_HND[h : h + 1]
                size, recipe = model.spec.retrieval_size, model.spec.recipe
                gap = retrieval.deciding_gap(*one, size, recipe, retrieved_HR[h : h + 1])
                gaps.append(gap / float(one[0].norm(dim=-1).max() * one[1].norm(dim=-1).max()))
        state.replace_retrieved(boundary.positions)
    return torch.cat(rows), gaps


@pytest.mark.parametrize("recipe", ["topk", "anchors"])
@pytest.mark.parametrize("long", [((), (0, 1)), ((), (1,), (0, 1))], ids=["2-layers", "3-layers"])
def test_on_the_same_rows_forms_agree_and_other_rows_are_near_ties(recipe: str, long) -> None:
    ties, apart = [], 0.0
    for seed, cut in ((1, 12), (5, 12), (9, 5)):
        model, cuts = world(long, cut, recipe, seed)
        trace = model.trace(IDS, cuts)
        expected = model.logits(IDS, cuts)
        for stride in (1, 12):
            logits, gaps = forced(model, cuts, trace, stride)
            assert distance(logits, expected) <= BOUNDS[torch.float64].forms
            ties += gaps
        apart = max(apart, distance(model.logits(IDS, cuts, form="steps"), expected))
    assert ties and max(ties) <= ROUNDING
    # Left alone, the forms do go on with other rows, and that matters.
    assert recipe != "topk" or apart > 0.1
