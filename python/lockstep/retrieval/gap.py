"""How close a retrieval decision was: the score gap that explains another runtime's choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from .blocks import block_gap, listed, masses
from .scores import exact_scores, working
from .select import KEYS_PER_QUERY, SPAN, expand, neighbourhood, query_vectors, select

NEAR = 6  # anchors on either side of the last selected one that may have changed places


def deciding_gap(
    queries_HQD: Tensor,
    keys_HND: Tensor,
    size: int,
    recipe: str,
    other_positions: Tensor,
    block: int = 0,
) -> float:
    """Smallest score gap that explains ``other_positions`` [H, R'], given our queries and keys.

    If scores that differ by at most the gap change places, these positions come out. 0 where they
    are what `select` chooses, infinity where no change among near-ties leads to them. For `anchors`
    the search covers changes among the anchors around the last selected; for `blocks` the gap is
    the relative difference of two blocks' masses, which moves as an attention logit does.
    """
    queries_HQD, keys_HND = queries_HQD.cpu(), keys_HND.cpu()
    H, N, _ = keys_HND.shape
    other_HR = torch.as_tensor(other_positions, dtype=torch.int64).cpu()
    if recipe == "blocks" and 0 < size < N:
        return _blocks_gap(queries_HQD, keys_HND, size, other_HR, block)
    if other_HR.shape != (H, min(size, N)):
        return math.inf
    if other_HR.numel() == 0:
        return 0.0
    valid = bool(((other_HR >= 0) & (other_HR < N)).all())
    if not valid or bool((other_HR[:, 1:] <= other_HR[:, :-1]).any()):
        return math.inf
    own_HR = select(queries_HQD, keys_HND, size, recipe)
    changed = (own_HR != other_HR).any(-1).nonzero()[:, 0].tolist()
    queries_HQD, keys_HND = working(queries_HQD), working(keys_HND)
    vectors_HQD = queries_HQD[:, -1:] if recipe == "topk" else query_vectors(queries_HQD)
    gap = _topk_gap if recipe == "topk" else _anchors_gap
    gaps = [
        gap(exact_scores(vectors_HQD[h][:, None], keys_HND[h][None]).double(), other_HR[h], size)
        for h in changed
    ]
    return max(gaps, default=0.0)


def _blocks_gap(
    queries_HgQD: Tensor, keys_HND: Tensor, size: int, other_HR: Tensor, block: int
) -> float:
    H, N, _ = keys_HND.shape
    own = listed(select(queries_HgQD, keys_HND, size, "blocks", block))
    if len(other_HR) != H:
        return math.inf
    mass_Hb = masses(queries_HgQD.double(), keys_HND.double(), block)
    gaps = [
        block_gap(mass_Hb[h], N, other_HR[h], size, block)
        for h, rows in enumerate(listed(other_HR))
        if rows != own[h]
    ]
    return max(gaps, default=0.0)


def _topk_gap(scores_QN: Tensor, other_R: Tensor, size: int) -> float:
    """The best key left out against the worst selected."""
    selected_N = torch.zeros(scores_QN.shape[1], dtype=torch.bool)
    selected_N[other_R] = True
    scores_N = scores_QN[0]
    return max(0.0, float(scores_N[~selected_N].max() - scores_N[selected_N].min()))


def _anchors_gap(scores_QN: Tensor, other_R: Tensor, size: int) -> float:
    """Least cost of a set of anchors that expands to the other positions."""
    N = scores_QN.shape[1]
    k = min(KEYS_PER_QUERY, N)
    ranked_Qk = scores_QN.sort(-1, descending=True).values
    last_Q1 = ranked_Qk[:, k - 1 : k]
    next_Q1 = ranked_Qk[:, k : k + 1] if k < N else torch.full_like(last_Q1, -math.inf)
    inside_QN = scores_QN >= last_Q1
    candidate_N = inside_QN.any(0)
    enter_QN = last_Q1 - scores_QN
    leave_QN = scores_QN - next_Q1
    enter_N = enter_QN.amin(0).clamp_min(0.0)
    best_N = torch.where(
        candidate_N,
        scores_QN.masked_fill(~inside_QN, -math.inf).amax(0),
        scores_QN.amax(0),
    )
    allowed = [n for n in _order(candidate_N, best_N, enter_N) if _fits(n, other_R, N)]
    room = size // SPAN
    count = min(room, int(candidate_N.sum()))
    sure = [n for n in allowed if candidate_N[n]][: max(0, count - NEAR)]
    open_ = [n for n in allowed if n not in set(sure)][: 2 * NEAR]
    # No other key can be an anchor, nor stand in the way of one.
    near_e = torch.tensor(sorted({*allowed, *candidate_N.nonzero()[:, 0].tolist()}))
    at = {int(n): e for e, n in enumerate(near_e)}
    cost = _Cost(scores_QN[:, near_e], enter_QN[:, near_e], leave_QN[:, near_e], room)
    least = float(scores_QN.max() - scores_QN.min())
    found = False
    # Where there is room for more anchors than candidates, a key that enters or leaves changes
    # their number.
    for more in range(min(len(open_), room - len(sure)) + 1):
        for tail in combinations(open_, more):
            selected = torch.tensor([*sure, *tail], dtype=torch.int64)
            if not torch.equal(expand(selected, N, size), other_R):
                continue
            found, least = True, cost.below(least, [at[int(n)] for n in selected])
    return least if found else math.inf


@dataclass(frozen=True)
class _Cost:
    """What it takes to make keys the anchors, from scores [Q, E] of all keys that may be one.

    Within the gap a key may enter any query's best 16 that it misses by no more, and so gain that
    query's score; it may fall out of one that it leads the 17th by no more. The gap suffices when
    no other key is then surely ahead of the last anchor by more than it; while there is room for
    more anchors, when no other key is surely in any query's best 16.
    """

    scores_QE: Tensor
    enter_QE: Tensor
    leave_QE: Tensor
    room: int

    def below(self, limit: float, selected: list[int]) -> float:
        """The smallest gap that makes these keys (columns) the anchors, ``limit`` at most."""
        others = sorted(set(range(self.scores_QE.shape[1])) - set(selected))
        own_Qa, enter_Qa = self.scores_QE[:, selected], self.enter_QE[:, selected]
        rival_Qp, leave_Qp = self.scores_QE[:, others], self.leave_QE[:, others]

        def suffices(gap: float) -> bool:
            last_a = own_Qa.masked_fill(enter_Qa > gap, -math.inf).amax(0)
            ahead_p = rival_Qp.masked_fill(leave_Qp <= gap, -math.inf).amax(0)
            if not bool(torch.isfinite(last_a).all()):
                return False
            if not bool(torch.isfinite(ahead_p).any()):
                return True
            return len(selected) == self.room and float(ahead_p.max() - last_a.min()) <= gap

        if not suffices(limit):
            return limit
        if suffices(0.0):
            return 0.0
        low, high = 0.0, limit
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return high


def _order(candidate_N: Tensor, best_N: Tensor, enter_N: Tensor) -> list[int]:
    """Candidates, and the few keys that almost were, by falling best score."""
    outside = torch.where(candidate_N, math.inf, enter_N).sort(stable=True).indices[:NEAR]
    eligible_N = candidate_N.clone()
    eligible_N[outside] = True
    order = best_N.masked_fill(~eligible_N, -math.inf).sort(descending=True, stable=True).indices
    return order[: int(eligible_N.sum())].tolist()


def _fits(anchor: int, other_R: Tensor, N: int) -> bool:
    return bool(torch.isin(neighbourhood(torch.tensor([anchor]), N), other_R).all())
