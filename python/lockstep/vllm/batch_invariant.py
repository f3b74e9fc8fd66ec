"""Equal tokens keep equal keys in layer 0, in vLLM's fused projection.

See `lockstep.operator.batch_invariant`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..operator.batch_invariant import TILE


def exact_rows(projection: Any) -> None:
    """Let each row of the product be independent of how many others come with it.

    The product itself is padded, not the layer's `forward`: vLLM's layer for adapters calls the
    former alone.
    """
    method = projection.quant_method
    plain = method.apply

    def apply(layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        out: Tensor = plain(layer, F.pad(x, (0, 0, 0, -x.shape[0] % TILE)), bias)
        return out[: x.shape[0]]

    method.apply = apply
