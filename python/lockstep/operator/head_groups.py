"""A layer's KV heads in groups that see the same prefix: local, or long with or without a pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract.spec import Spec

Index = slice | Tensor


@dataclass(frozen=True)
class Group:
    """KV heads of one kind in one layer, with the query heads that follow them.

    ``carries``: they see the carry; local heads do, long ones where the contract says so.
    """

    layer: int
    local: bool
    carries: bool
    pooled: bool
    kv: tuple[int, ...]
    kv_index: Index
    q_index: Index

    @property
    def name(self) -> str:
        return "local" if self.local else "long"


@dataclass(frozen=True)
class HeadGroups:
    """Groups of every layer, and the order that puts their query heads back."""

    layers: tuple[tuple[Group, ...], ...]
    restore: tuple[Tensor | None, ...]
    kv_heads: int
    q_heads: int
    head_dim: int

    @classmethod
    def of(
        cls, spec: Spec, kv_heads: int, q_heads: int, head_dim: int, device: torch.device
    ) -> HeadGroups:
        size = q_heads // kv_heads
        layers, restore = [], []
        for layer, long in enumerate(spec.long_heads):
            kinds = ((True, [h for h in range(kv_heads) if h not in long]), (False, list(long)))
            groups, order = [], []
            for local, kv in kinds:
                if not kv:
                    continue
                q = [h * size + j for h in kv for j in range(size)]
                order += q
                pooled = not local and spec.pooled(layer)
                carries = local or spec.all_carry
                indices = _index(kv, device), _index(q, device)
                groups.append(Group(layer, local, carries, pooled, tuple(kv), *indices))
            layers.append(tuple(groups))
            inverse = sorted(range(q_heads), key=order.__getitem__)
            restore.append(
                None
                if order == inverse == list(range(q_heads))
                else torch.tensor(inverse, device=device)
            )
        return cls(tuple(layers), tuple(restore), kv_heads, q_heads, head_dim)

    def merge(self, layer: int, parts_HTD: Sequence[Tensor]) -> Tensor:
        """Outputs of a layer's groups [Hq_group, T, D], in query-head order: [Hq, T, D]."""
        merged = parts_HTD[0] if len(parts_HTD) == 1 else torch.cat(list(parts_HTD))
        order = self.restore[layer]
        return merged if order is None else merged[order]


def _index(heads: list[int], device: torch.device) -> Index:
    """A slice where the heads are contiguous, so that selecting them is a view."""
    if heads == list(range(heads[0], heads[-1] + 1)):
        return slice(heads[0], heads[-1] + 1)
    return torch.tensor(heads, device=device)
