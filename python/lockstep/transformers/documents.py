"""Which tokens of a padded batch are which sequence's: what transformers says by masks and
positions, and segments need as plain sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lockstep.errors import LockstepError


@dataclass(frozen=True)
class Document:
    """Columns [start, end) of a row: a sequence, or more of the one that a cache holds."""

    row: int
    start: int
    end: int


def documents(
    ids_BL: Tensor,
    attention_mask: Any = None,
    position_ids: Any = None,
    past: Sequence[int] | None = None,
    columns: int = 0,
) -> list[Document]:
    """The sequences of a batch, in order of rows.

    ids_BL: token ids. attention_mask: [B, columns + L], 1 for a token and 0 for padding on the left
    or the right. position_ids: [B, L]; where they start again at 0 a row holds another sequence, as
    in batches that are packed. past: of a cache, how many tokens it holds of each row; columns: how
    many columns, padding included, it has seen.

    Raises ``LS_TRANSFORMERS_MASK``, ``LS_TRANSFORMERS_POSITIONS``.
    """
    B, L = ids_BL.shape
    rows = [(0, L)] * B if attention_mask is None else _runs(attention_mask, B, L, columns, past)
    if position_ids is None:
        return [Document(row, *run) for row, run in enumerate(rows) if run[0] < run[1]]
    places = torch.as_tensor(position_ids)
    if places.dim() != 2 or places.shape[1] != L or places.shape[0] not in (1, B):
        raise _positions(f"shape ({B}, {L})", f"shape {tuple(places.shape)}")
    places_BL = places.expand(B, L).tolist()
    found = []
    for row, (start, end) in enumerate(rows):
        if start < end:
            first = 0 if past is None else past[row]
            found += _split(row, start, end, places_BL[row], first, past is None)
    return found


def is_packed(ids_BL: Tensor, attention_mask: Any, position_ids: Any) -> bool:
    """Whether a row of a new batch holds several sequences."""
    if position_ids is None:
        return False
    rows = [one.row for one in documents(ids_BL, attention_mask, position_ids)]
    return len(rows) > len(set(rows))


def _runs(
    attention_mask: Any, B: int, L: int, columns: int, past: Sequence[int] | None
) -> list[tuple[int, int]]:
    mask = torch.as_tensor(attention_mask)
    if tuple(mask.shape) != (B, columns + L):
        raise _mask(f"an attention_mask of shape ({B}, {columns + L})", f"{tuple(mask.shape)}")
    seen_BL = mask[:, columns:].bool()
    if bool(seen_BL.all()):
        return [(0, L)] * B
    runs = []
    for row in range(B):
        at = seen_BL[row].nonzero()[:, 0].tolist()
        start, end = (at[0], at[-1] + 1) if at else (0, 0)
        inside = past is not None and past[row] > 0 and start > 0
        if end - start != len(at) or inside:
            raise _mask(
                "padding on the left or the right of a row's tokens", f"it within row {row}"
            )
        runs.append((start, end))
    return runs


def _split(
    row: int, start: int, end: int, places: list[int], first: int, several: bool
) -> list[Document]:
    edges = [start]
    expected = first
    for column in range(start, end):
        if places[column] == 0 and expected and several:
            edges.append(column)
            expected = 0
        if places[column] != expected:
            raise _positions(
                f"position {expected} in row {row}, column {column}", f"{places[column]}"
            )
        expected += 1
    return [Document(row, *span) for span in zip(edges, [*edges[1:], end], strict=True)]


def _mask(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_MASK",
        f"expected {expected}, got {got}",
        "Pass the attention_mask that the tokenizer makes with padding=True.",
        "attention_mask",
    )


def _positions(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_POSITIONS",
        f"expected {expected}, got {got}: a segment's positions follow from its contract",
        "Leave position_ids out; in a packed batch they count from 0 in every sequence, and "
        "no cache is asked for.",
        "position_ids",
    )
