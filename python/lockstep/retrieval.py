"""Which pool rows the next segment sees (SEMANTICS.md 4): the recipes `anchors` and `topk`.

Both rest on one primitive, `best`: the k best keys of a query by exact scores, equal scores to the
lower position. It finds candidates with one matrix product and a rigorous bound on its error, and
computes exact scores for those alone, so it always equals the plain arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import LockstepError

RECENT = 64  # queries that the anchors recipe looks back on
WINDOW, STRIDE, TAIL = 8, 4, 4  # its query vectors
KEYS_PER_QUERY = 16  # its candidates per query vector
BEFORE, AFTER = 3, 4  # an anchor a brings a-3 .. a+4
SPAN = BEFORE + 1 + AFTER


def recent(recipe: str) -> int:
    """How many of a segment's last queries a recipe reads."""
    return RECENT if recipe == "anchors" else 1


def group_mean(q_HgTD: Tensor) -> Tensor:
    """Mean over the query heads of a group, in order, in float64: [H, g, T, D] -> [H, T, D].

    Rounded to float32 unless the model is float64.
    """
    return _mean(q_HgTD, 1)


def select(queries_HQD: Tensor, keys_HND: Tensor, size: int, recipe: str) -> Tensor:
    """Pool positions retrieved per head, int64 [H, R'], ascending, R' = min(size, N).

    ``queries_HQD`` are the group means of the segment's last min(64, length) raw queries, in order;
    ``keys_HND`` the pool's raw keys. float64 inputs stay float64 throughout.
    """
    H, N, _ = keys_HND.shape
    if N <= size:
        return torch.arange(N, device=keys_HND.device).expand(H, N).contiguous()
    if size == 0:
        return torch.empty(H, 0, dtype=torch.int64, device=keys_HND.device)
    queries_HQD, keys_HND = _working(queries_HQD), _working(keys_HND)
    if recipe == "topk":
        return best(queries_HQD[:, -1:], keys_HND, size)[0][:, 0].sort(-1).values
    vectors_HQD = query_vectors(queries_HQD)
    keys_HQk, scores_HQk = best(vectors_HQD, keys_HND, min(KEYS_PER_QUERY, N))
    return torch.stack([
        expand(_anchors(keys_HQk[h].flatten(), scores_HQk[h].flatten(), size // SPAN), N, size)
        for h in range(H)
    ])


def query_vectors(queries_HQD: Tensor) -> Tensor:
    """The anchors recipe's query vectors: means of full windows of 8 at stride 4, then of the last 4."""
    Q = queries_HQD.shape[1]
    if Q < WINDOW:
        vectors = [_mean(queries_HQD, 1)]
    else:
        vectors = [
            _mean(queries_HQD[:, s : s + WINDOW], 1) for s in range(0, Q - WINDOW + 1, STRIDE)
        ]
    if Q >= TAIL:
        vectors.append(_mean(queries_HQD[:, Q - TAIL :], 1))
    return torch.stack(vectors, 1)


def expand(anchors_a: Tensor, N: int, size: int) -> Tensor:
    """Positions of the anchors' neighbourhoods, filled up with the earliest others, ascending [size]."""
    offsets = torch.arange(-BEFORE, AFTER + 1, device=anchors_a.device)
    taken_N = torch.zeros(N, dtype=torch.bool, device=anchors_a.device)
    taken_N[(anchors_a[:, None] + offsets).clamp_(0, N - 1).flatten()] = True
    missing = size - int(taken_N.sum())
    # Of the first `size` positions at most `size - missing` are taken, so enough are free.
    free = (~taken_N[:size]).nonzero()[:missing, 0]
    taken_N[free] = True
    return taken_N.nonzero()[:, 0]


def best(queries_HQD: Tensor, keys_HND: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best keys of every query by (score descending, position ascending).

    Returns positions int64 [H, Q, k] and their exact scores [H, Q, k].
    """
    H, Q, _ = queries_HQD.shape
    candidate_HQN = _candidates(queries_HQD, keys_HND, k)
    h_C, q_C, n_C = candidate_HQN.nonzero(as_tuple=True)
    score_C = exact_scores(queries_HQD[h_C, q_C], keys_HND[h_C, n_C])
    # nonzero lists positions in ascending order, so stable sorts leave ties to the lower one.
    order = torch.sort(score_C, descending=True, stable=True).indices
    row_C = h_C * Q + q_C
    order = order[torch.sort(row_C[order], stable=True).indices]
    count_r = torch.bincount(row_C, minlength=H * Q)
    first_r = count_r.cumsum(0) - count_r
    pick = order[(first_r[:, None] + torch.arange(k, device=order.device)).flatten()]
    return n_C[pick].view(H, Q, k), score_C[pick].view(H, Q, k)


def exact_scores(q_CD: Tensor, k_CD: Tensor) -> Tensor:
    """Scores of SEMANTICS.md 4 for pairs of rows: [..., D] x [..., D] -> [...].

    Products in float32, summed in float64 in order of d, rounded to float32; float64 stays float64.
    """
    product_DC = (q_CD * k_CD).movedim(-1, 0).double()
    total_C = product_DC[0].clone()
    for row_C in product_DC[1:]:
        total_C += row_C
    return total_C.to(q_CD.dtype)


def _candidates(queries_HQD: Tensor, keys_HND: Tensor, k: int) -> Tensor:
    """Mask [H, Q, N] of the keys that can be among the k best of a query.

    With u the unit roundoff, a product sum of D terms in any order, with or without fused
    multiply-add, errs by at most D u / (1 - D u) times the sum of |q_d k_d|, and the exact score by
    u (products) + u (final rounding) times the same; that sum is at most |q|_1 |k|_inf. A key whose
    upper bound lies below the k-th best lower bound is worse than k others.
    """
    D = queries_HQD.shape[-1]
    q, keys = queries_HQD, keys_HND
    if q.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        q, keys = q.double(), keys.double()  # the product would be computed in bfloat16 or TF32
    unit = torch.finfo(queries_HQD.dtype).eps / 2
    approx_HQN = q @ keys.transpose(1, 2)
    sum_HQN = q.abs().sum(-1)[:, :, None] * torch.linalg.vector_norm(keys, torch.inf, -1)[:, None]
    # 2 (D + 4) covers 1 / (1 - D u) and the rounding of the bound; the constant covers underflow.
    slack_HQN = sum_HQN.mul_(2 * (D + 4) * unit).add_(D * torch.finfo(torch.float32).tiny)
    threshold = torch.topk(approx_HQN - slack_HQN, k, sorted=False).values.amin(-1, keepdim=True)
    if not bool(torch.isfinite(threshold).all() & torch.isfinite(approx_HQN).all()):
        raise LockstepError(
            "LS_RETRIEVAL_NONFINITE",
            "expected finite queries and keys at a boundary, got NaN or infinity",
            "the weights have diverged: go back to the last good checkpoint, with a lower learning rate",
        )
    return approx_HQN.add_(slack_HQN) >= threshold


def _anchors(keys_c: Tensor, scores_c: Tensor, count: int) -> Tensor:
    """The ``count`` best distinct keys of a candidate list, each with its best score."""
    order = torch.sort(keys_c, stable=True).indices
    keys_c, scores_c = keys_c[order], scores_c[order]
    order = torch.sort(scores_c, descending=True, stable=True).indices
    chosen: dict[int, None] = {}
    for key in keys_c[order].tolist():
        if len(chosen) == count:
            break
        chosen.setdefault(key)
    return torch.tensor(list(chosen), dtype=torch.int64, device=keys_c.device)


def _working(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _mean(x: Tensor, dim: int) -> Tensor:
    """Mean along ``dim``, summed in order in float64, rounded to float32 unless x is float64."""
    rows = x.double().unbind(dim)
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total if x.dtype == torch.float64 else total.float()
