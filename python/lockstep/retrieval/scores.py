"""Scores of SEMANTICS.md 4 and the k best keys by them: exact, and quick.

Candidates come from one matrix product and a rigorous bound on its error; exact scores are computed
for those alone, so the result always equals the plain arithmetic, ties included.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import LockstepError


def group_mean(q_HgTD: Tensor) -> Tensor:
    """Mean over the query heads of a group, in order, in float64: [H, g, T, D] -> [H, T, D].

    Rounded to float32 unless the model is float64.
    """
    return mean(q_HgTD, 1)


def mean(x: Tensor, dim: int) -> Tensor:
    """Mean along ``dim``, summed in order in float64, rounded to float32 unless x is float64."""
    rows = x.double().unbind(dim)
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total if x.dtype == torch.float64 else total.float()


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
    q, keys = full_products(queries_HQD, keys_HND)
    unit = torch.finfo(queries_HQD.dtype).eps / 2
    approx_HQN = q @ keys.transpose(1, 2)
    largest_HN = torch.maximum(keys.amax(-1), -keys.amin(-1))  # 15x vector_norm(keys, inf) on a CPU
    sum_HQN = q.abs().sum(-1)[:, :, None] * largest_HN[:, None]
    # 2 (D + 4) covers 1 / (1 - D u) and the rounding of the bound; the constant covers underflow.
    slack_HQN = sum_HQN.mul_(2 * (D + 4) * unit).add_(D * torch.finfo(torch.float32).tiny)
    threshold = torch.topk(approx_HQN - slack_HQN, k, sorted=False).values.amin(-1, keepdim=True)
    if not bool(torch.isfinite(threshold).all() & torch.isfinite(approx_HQN).all()):
        raise LockstepError(
            "LS_RETRIEVAL_NONFINITE",
            "expected finite queries and keys at a boundary, got NaN or infinity",
            "the weights have diverged: use the last good checkpoint",
        )
    return approx_HQN.add_(slack_HQN) >= threshold


def full_products(q: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The factors of a product, float64 where it would be computed in bfloat16 or TF32."""
    if q.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return q.double(), keys.double()
    return q, keys


def working(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
