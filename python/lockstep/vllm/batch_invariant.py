"""Equal tokens keep equal keys in layer 0, in vLLM's fused projection.

See `lockstep.operator.batch_invariant`.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..operator.batch_invariant import TILE


def exact_rows(projection: nn.Module) -> None:
    """Let each row of the product be independent of how many others come with it."""
    plain = projection.forward

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        out, bias = plain(F.pad(x, (0, 0, 0, -x.shape[0] % TILE)), *args, **kwargs)
        return out[: x.shape[0]], bias

    projection.forward = forward
