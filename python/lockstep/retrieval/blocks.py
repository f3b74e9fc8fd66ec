"""The recipe `blocks` of SEMANTICS.md 4: whole blocks of neighbouring rows, by attention mass.

A query scores keys as attention does, all of them at one distance: rotating the query alone by that
distance suffices, so keys stay raw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import LockstepError
from ..operator.rope import Rope, rotate
from .scores import full_products, working

#: Logits alive at once: what stays in a CPU's cache, and what fills a GPU.
CHUNK = {"cpu": 1 << 18, "gpu": 1 << 26}
#: Masses below this are alike: a float32 runtime may have lost them to underflow.
FAINT = 1e-30


def at_distance(q_HgQD: Tensor, rope: Rope, distance: int, scale: float) -> Tensor:
    """Raw queries [H, g, Q, D] made so that q.k is attention's own logit at that distance.

    The rotation's attention factor enters twice, once for the key that stands at position 0.
    float32, or float64 for a float64 model.
    """
    q_HgQD = working(q_HgQD)
    cos_D, sin_D = rope.at(torch.tensor(distance), q_HgQD.dtype)
    return rotate(q_HgQD, cos_D, sin_D) * (rope.factor * scale)


def masses(queries_HgQD: Tensor, keys_HND: Tensor, block: int) -> Tensor:
    """Attention mass of every block [H, ceil(N / B)], from queries of `at_distance` and raw keys.

    Raises ``LS_RETRIEVAL_NONFINITE`` for queries or keys with NaN or infinity.
    """
    q_HrD, keys_HND = full_products(working(queries_HgQD).flatten(1, 2), working(keys_HND))
    H, N, _ = keys_HND.shape
    room = CHUNK["cpu" if q_HrD.device.type == "cpu" else "gpu"] // (H * q_HrD.shape[1])
    step = max(1, room // block) * block
    parts = [_part(q_HrD, keys_HND[:, n : n + step], block) for n in range(0, N, step)]
    top_Hr1 = torch.cat([top for top, _ in parts], -1).amax(-1, keepdim=True)
    mass_Hrb = torch.cat([sums.mul_((top - top_Hr1).exp_()) for top, sums in parts], -1)
    mass_Hb = mass_Hrb.div_(mass_Hrb.sum(-1, keepdim=True)).sum(1)
    if not bool(torch.isfinite(mass_Hb).all()):
        raise LockstepError(
            "LS_RETRIEVAL_NONFINITE",
            "expected finite queries and keys at a boundary, got NaN or infinity",
            "the weights have diverged: use the last good checkpoint",
        )
    return mass_Hb


def _part(q_HrD: Tensor, keys_HnD: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Of some neighbouring keys every query's largest logit [H, r, 1], and by block the sum of
    exp(logit - largest) [H, r, b]."""
    logits_Hrn = q_HrD @ keys_HnD.transpose(1, 2)
    top_Hr1 = logits_Hrn.amax(-1, keepdim=True)
    p_Hrn = logits_Hrn.sub_(top_Hr1).exp_()
    whole = keys_HnD.shape[1] // block * block
    sums = [p_Hrn[..., :whole].unflatten(-1, (-1, block)).sum(-1)] if whole else []
    if whole < keys_HnD.shape[1]:
        sums.append(p_Hrn[..., whole:].sum(-1, keepdim=True))
    return top_Hr1, torch.cat(sums, -1)


def heaviest(mass_Hb: Tensor, rows: int, size: int, block: int) -> Tensor:
    """Positions [H, R'] of the floor(R / B) heaviest blocks, ties to the lower; rows N > R.

    A head that takes the shorter last block has fewer rows than others: -1 fills its front.
    """
    ranked_Hb = torch.sort(mass_Hb, dim=-1, descending=True, stable=True).indices
    first_Hc = ranked_Hb[:, : size // block] * block
    positions_HR = (first_Hc[..., None] + torch.arange(block, device=first_Hc.device)).flatten(1)
    positions_HR = positions_HR.masked_fill(positions_HR >= rows, -1).sort(-1).values
    unused = int((positions_HR < 0).sum(-1).min()) if positions_HR.numel() else 0
    return positions_HR[:, unused:]


def block_gap(mass_b: Tensor, rows: int, other_R: Tensor, size: int, block: int) -> float:
    """Relative difference of two masses that must change places for ``other_R`` to be selected.

    Infinity where these are not the rows of floor(R / B) whole blocks.
    """
    selected = torch.unique(other_R[other_R >= 0] // block)
    if len(selected) != size // block:
        return math.inf
    selected_b = torch.zeros(len(mass_b), dtype=torch.bool)
    if int(selected[-1]) >= len(mass_b):
        return math.inf
    selected_b[selected] = True
    expected = torch.arange(rows)[selected_b.repeat_interleave(block)[:rows]]
    if not torch.equal(expected, other_R[other_R >= 0]):
        return math.inf
    heaviest_out, lightest_in = float(mass_b[~selected_b].max()), float(mass_b[selected_b].min())
    return max(0.0, heaviest_out - lightest_in) / max(heaviest_out, FAINT)


def listed(positions_HR: Tensor) -> list[list[int]]:
    """Positions as lists, without the -1 that fill shorter ones."""
    return [[n for n in row if n >= 0] for row in positions_HR.tolist()]


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """Lists of positions as one int64 tensor [H, R'], -1 in front of shorter ones."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([[-1] * (width - len(row)) + list(row) for row in rows], dtype=torch.int64)
