"""Rotary positions, relative to the segment, with angles in float64 (SEMANTICS.md 3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import LockstepError

FIXED_TYPES = ("default", "linear", "llama3", "yarn")


def rotate(x_HTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Rotate pairs (d, d + D/2) of every row by its angle.

    ``sin_TD`` carries the sign of rotate_half: its first half is -sin.
    """
    return torch.addcmul(x_HTD * cos_TD, x_HTD.roll(x_HTD.shape[-1] // 2, -1), sin_TD)


def check_scaling(config: Any) -> None:
    """Refuse a RoPE scaling that depends on the length (``LS_ROPE_SCALING``)."""
    parameters = getattr(config, "rope_parameters", None) or {}
    kind = parameters.get("rope_type", "default")
    if kind not in FIXED_TYPES:
        raise LockstepError(
            "LS_ROPE_SCALING",
            f"expected a fixed RoPE scaling ({', '.join(FIXED_TYPES)}), got {kind!r}",
            "This model does not fit: use one with a fixed RoPE scaling.",
            "rope_parameters.rope_type",
        )


class _One:
    """A cosine of 1: a tensor times it is the tensor itself, without a pass over its memory."""

    def unsqueeze(self, dim: int) -> _One:
        return self

    def __rmul__(self, x: Tensor) -> Tensor:
        return x


class _Zero:
    """A sine of 0: what it multiplies adds nothing."""

    def unsqueeze(self, dim: int) -> _Zero:
        return self

    def __rmul__(self, x: Tensor) -> _Zero:
        return self

    def __radd__(self, x: Tensor) -> Tensor:
        return x


class Identity(nn.Module):
    """In place of a model's rotary embedding: queries and keys stay raw (q * 1 + rotated q * 0)."""

    table = _One(), _Zero()

    def forward(self, x: Tensor, position_ids: Tensor, *_: Any, **__: Any) -> tuple[_One, _Zero]:
        return self.table


class Rope:
    """cos/sin of positions 0, 1, ..., grown on demand, rounded once from float64 to ``dtype``.

    The inverse frequencies are the float32 ones that transformers derives from the configuration; a
    fixed scaling's attention factor multiplies cos and sin, so it reaches every rotated row.
    """

    def __init__(self, inv_freq_F: Tensor, factor: float, dtype: torch.dtype, device: torch.device):
        self.inv_freq_F = inv_freq_F.detach().to("cpu", torch.float64)
        self.factor, self.dtype, self.device = float(factor), dtype, device
        self.cos_ND = self.sin_ND = torch.empty(0, 2 * len(inv_freq_F), dtype=dtype, device=device)

    @classmethod
    def of(cls, rotary: Any, config: Any, dtype: torch.dtype, device: torch.device) -> Rope:
        """From a transformers rotary module; refuses what depends on the length (``LS_ROPE_*``)."""
        check_scaling(config)
        # A fresh one: .to(bfloat16) on the module would have rounded its frequencies.
        fresh = type(rotary)(config)
        head_dim = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        if 2 * len(fresh.inv_freq) != head_dim:
            raise LockstepError(
                "LS_ROPE_PARTIAL",
                f"expected all {head_dim} dimensions to be rotated, got {2 * len(fresh.inv_freq)}",
                "use a checkpoint without partial rotary embeddings",
                "rope_parameters.partial_rotary_factor",
            )
        return cls(fresh.inv_freq, getattr(fresh, "attention_scaling", 1.0), dtype, device)

    def rows(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """cos and signed sin [end - start, D] of the positions [start, end)."""
        if end > len(self.cos_ND):
            self._grow(max(end, min(2 * len(self.cos_ND), end + 4096)))
        return self.cos_ND[start:end], self.sin_ND[start:end]

    def at(self, positions: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """cos and signed sin [..., D] of any positions [...], without a table.

        ``dtype`` is the rotation's own unless another is given.
        """
        dtype = self.dtype if dtype is None else dtype
        angle_F = positions.double()[..., None] * self.inv_freq_F.to(positions.device)
        cos_F, sin_F = angle_F.cos() * self.factor, angle_F.sin() * self.factor
        return (
            torch.cat((cos_F, cos_F), -1).to(self.device, dtype),
            torch.cat((-sin_F, sin_F), -1).to(self.device, dtype),
        )

    def _grow(self, size: int) -> None:
        self.cos_ND, self.sin_ND = self.at(torch.arange(size))
