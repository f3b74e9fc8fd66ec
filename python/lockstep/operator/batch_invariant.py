"""Equal tokens have equal keys in layer 0, to the bit, whatever pass computed them.

Retrieval gives equal scores to the lower position (SEMANTICS.md 4), and in layer 0 a repeated
token's raw key is the same vector wherever it stands. A matrix product does not keep it so: rows at
its edge, and products of a single row, are summed in another order, and the last bit then decides
instead of the position. Padding the rows to whole tiles of the kernels makes every row alike.

Deeper layers see context, so there equal tokens have equal keys only where their contexts are equal
too, as in equal segments of a repeated text. Those keys are equal in mathematics, not to the bit:
each form of a pass (parallel, by segment, by token) rounds them its own way, and the last bit, not
the position, decides which of them are retrieved. To make them exact every product below would
have to be padded so (some 24 times the work of a decoded token), and attention too, everywhere.
They are what SEMANTICS.md 4 calls near-ties, with a gap of rounding's size (below 1e-14 of
|q||k| in float64): on the same rows all forms agree to 1e-10; left alone they may go on with other
rows and then differ by as much as those rows matter (test_ties.py: logits by 0.1 to 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..contract.spec import Spec

TILE = 24  # rows: a multiple of the usual 4, 6, 8 and 12


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    """``module(x)``, each row independent of how many others come with it."""
    x_NE = x.flatten(0, -2)
    n = len(x_NE)
    y_NE = F.linear(F.pad(x_NE, (0, 0, 0, -n % TILE)), module.weight, module.bias)
    return y_NE[:n].unflatten(0, x.shape[:-1])


@contextmanager
def exact_keys(body: Any, spec: Spec) -> Iterator[None]:
    """Meanwhile a transformers decoder computes layer 0's keys so, where they are retrieved by."""
    projection = body.layers[0].self_attn.k_proj
    # With an adapter (LoRA) the projection is the sum of several products.
    plain = [part for part in projection.modules() if type(part) is nn.Linear]
    if 0 not in spec.retrieval_layers or not spec.long_heads[0] or not plain:
        yield
        return
    for part in plain:
        part.forward = partial(linear, part)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for part in plain:
            del part.forward
