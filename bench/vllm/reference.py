"""The trainer's operator on the very tokens that an engine was scored on, beside its choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lockstep import retrieval
from lockstep.operator.model import Model
from lockstep.vllm.retrieved_rows import in_pool
from torch import Tensor

#: {(tokens before the boundary, layer): token positions [H_long, R] that the engine retrieved, as
#: `lockstep.vllm.retrieved_rows.RetrievedRows` keeps them}
Choices = Mapping[tuple[int, int], Sequence[Sequence[int]]]


@dataclass
class Scored:
    """log p [T, V] in float64 of a sequence, and where the engine retrieved otherwise."""

    logp_TV: Tensor
    compared: int = 0
    mismatches: list[dict[str, Any]] = field(default_factory=list)


@torch.no_grad()
def score(model: Model, ids: Sequence[int], choices: Choices) -> Scored:
    """Run the operator segment by segment.

    Where the engine retrieved other rows, the gap that decides is noted, and the operator goes on
    with the engine's rows, so that what follows is compared under the same choice.
    """
    state, spec = model.state(), model.spec
    rows: list[Tensor] = []
    scored = Scored(torch.empty(0))
    start = 0
    for end in [*model.plan(ids), len(ids)]:
        if end > start:
            rows.append(model.step(state, ids[start:end], rows="all"))
        if end == len(ids):
            break
        boundary = state.close()
        start = end
        others: dict[int, Tensor] = {}
        for layer, own_HR in boundary.positions.items():
            if own_HR.shape[1] == 0 or (end, layer) not in choices:
                continue
            count = min(spec.retrieval_size, spec.eligible_at(end))
            positions_HR = torch.tensor(choices[end, layer])[:, :count]
            other_HR = retrieval.padded(in_pool(positions_HR, min(spec.sinks, end)))
            scored.compared += 1
            if torch.equal(own_HR, other_HR):
                continue
            group = next(g for g in state.layers[layer] if g.group.pooled)
            gap = retrieval.deciding_gap(
                boundary.queries[layer],
                group.pool_k.view()[:, : group.eligible],
                spec.retrieval_size,
                spec.recipe,
                other_HR,
                spec.block,
            )
            scored.mismatches.append({"at": end, "layer": layer, "gap": gap})
            others[layer] = other_HR
        if others:
            state.replace_retrieved(others)
    scored.logp_TV = torch.cat(rows).double().log_softmax(-1)
    return scored
