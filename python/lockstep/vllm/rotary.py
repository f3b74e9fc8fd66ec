"""Rotation in place, in one pass: vLLM's rotary kernel over angles of our own (SEMANTICS.md 3).

The kernel is upstream's `rotary_embedding` (csrc/pos_encoding, and its CPU version): it turns pairs
(d, d + D/2) of a row by the angles that a table holds for the row's position. Its own tables are
computed in float32; these come from `rope.Rope`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, cat
from vllm import _custom_ops as ops

ALIGNED = 32  # bytes: the CPU kernel ends the process on bfloat16 rows that start between


def table(cos_ND: Tensor, sin_ND: Tensor) -> Tensor:
    """[N, D]: cos of the D/2 angles, then sin, from `Rope`'s cos and signed sin."""
    half = cos_ND.shape[-1] // 2
    return cat((cos_ND[:, :half], sin_ND[:, half:]), -1)


@dataclass(frozen=True)
class InPlaceRotation:
    """Row i of a tensor turns by row ``at_n[i]`` of ``table_ND``."""

    table_ND: Tensor
    at_n: Tensor

    def __call__(self, x_nC: Tensor) -> Tensor:
        """Rotate [n, heads * D] in place; rows may lie apart. Gives it back."""
        head_dim = self.table_ND.shape[-1]
        if head_dim * self.table_ND.element_size() % ALIGNED == 0:
            ops.rotary_embedding(self.at_n, x_nC, None, head_dim, self.table_ND, True)
        else:
            cos_n1F, sin_n1F = self.table_ND[self.at_n, None].chunk(2, -1)
            x_nHD = x_nC.unflatten(1, (-1, head_dim))
            a_nHF, b_nHF = x_nHD.chunk(2, -1)
            x_nHD.copy_(
                cat((a_nHF * cos_n1F - b_nHF * sin_n1F, b_nHF * cos_n1F + a_nHF * sin_n1F), -1)
            )
        return x_nC
