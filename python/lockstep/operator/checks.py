"""Checks of what a caller hands in: token ids and boundaries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import LockstepError


def check_ids(ids: Any, vocabulary: int, device: torch.device | None = None) -> Tensor:
    """Token ids as int64 [T] (``LS_TOKENS_TYPE``, ``LS_TOKENS_SHAPE``, ``LS_TOKENS_RANGE``)."""
    try:
        ids_T = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise LockstepError(
            "LS_TOKENS_TYPE",
            f"expected integer token ids, got {type(ids).__name__} ({error})",
            "pass a list or an integer tensor of token ids",
        ) from None
    if ids_T.numel() == 0:
        ids_T = ids_T.reshape(-1).long()
    if ids_T.dtype.is_floating_point or ids_T.dtype.is_complex or ids_T.dtype == torch.bool:
        raise LockstepError(
            "LS_TOKENS_TYPE",
            f"expected integer token ids, got {ids_T.dtype}",
            "pass a list or an integer tensor of token ids",
        )
    if ids_T.dim() != 1:
        raise LockstepError(
            "LS_TOKENS_SHAPE",
            f"expected one sequence of token ids, got shape {tuple(ids_T.shape)}",
            "pass documents one by one, or as a list to the calls that take several",
        )
    ids_T = ids_T.long()
    if len(ids_T) and (int(ids_T.min()) < 0 or int(ids_T.max()) >= vocabulary):
        at = int(((ids_T < 0) | (ids_T >= vocabulary)).nonzero()[0, 0])
        raise LockstepError(
            "LS_TOKENS_RANGE",
            f"expected token ids in 0..{vocabulary - 1}, got {int(ids_T[at])} at position {at}",
            "tokenize with the model's own tokenizer.json",
        )
    return ids_T if device is None else ids_T.to(device)


def check_boundaries(boundaries: Sequence[int], length: int, most: int) -> list[int]:
    """Ascending cuts e_i in 1..length with no segment longer than ``most`` (``LS_BOUNDARIES``)."""
    cuts = [int(e) for e in boundaries]
    edges = [0, *cuts]
    if any(b <= a for a, b in itertools.pairwise(edges)) or edges[-1] > length:
        raise LockstepError(
            "LS_BOUNDARIES",
            f"expected ascending boundaries in 1..{length}, got {cuts[:8]}",
            "pass what plan(ids) returned for the same ids",
        )
    for a, b in zip(edges, [*cuts, length], strict=True):
        if b - a > most:
            raise LockstepError(
                "LS_BOUNDARIES",
                f"expected segments of at most {most} tokens, got [{a}, {b})",
                "pass what plan(ids) returned for the same ids",
            )
    return cuts
