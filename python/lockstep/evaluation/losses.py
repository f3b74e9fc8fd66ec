"""-log p of every token of a text, by kind of attention: what all perplexities are made of.

Attention: ``full`` is stock full attention, ``segmented`` is under the checkpoint's contract,
``noSinks`` the same with A = 0, as in the paper. Each is causal and plans without lookahead, so one
pass over the longest length gives all shorter ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from lockstep.operator.model import Model

ATTENTION = ("full", "noSinks", "segmented")


def losses(model: Model, ids: Sequence[int], cuts: Sequence[int], attention: str) -> Tensor:
    """-log p(x_{t+1}) in float64 nats, [T - 1]."""
    from lockstep.baseline import full

    if attention == "full":
        return full.nll(model, ids)
    return _with_attention(model, attention).nll(ids, cuts)


def _with_attention(model: Model, attention: str) -> Any:
    if attention == "segmented":
        return model
    from lockstep.operator.model import Model

    return Model.from_module(model.module, dataclasses.replace(model.spec, sinks=0))
