"""-log p of every token of a text, run in one way or another: what all perplexities are made of.

Ways: ``full`` stock full attention; ``segmented`` under the checkpoint's contract; ``noSinks`` the
same with A = 0, as the paper has it. Every way is causal and plans without lookahead, so one pass
over the longest length gives all shorter ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lockstep.operator.model import Model

WAYS = ("full", "noSinks", "segmented")


def losses(model: Model, ids: Sequence[int], cuts: Sequence[int], way: str) -> Tensor:
    """-log p(x_{t+1}) in float64 nats, [T - 1]."""
    from lockstep.baseline import full

    if way == "full":
        return full.nll(model, ids)
    return _in_way(model, way).nll(ids, cuts)


def _in_way(model: Model, way: str) -> Any:
    if way == "segmented":
        return model
    from lockstep.operator.model import Model

    return Model.from_module(model.module, dataclasses.replace(model.spec, sinks=0))
