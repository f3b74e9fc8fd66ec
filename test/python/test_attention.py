"""Attention of one segment: both ways of saying who sees whom, against a softmax written out."""

from __future__ import annotations

import pytest
import torch
from lockstep.operator.attention import _lower_right, attend
from torch import Tensor


def oracle(q_HTD: Tensor, k_HND: Tensor, v_HND: Tensor, scale: float) -> Tensor:
    Hq, T, _ = q_HTD.shape
    H, N, _ = k_HND.shape
    rows = []
    for h in range(Hq):
        k_ND, v_ND = k_HND[h // (Hq // H)], v_HND[h // (Hq // H)]
        outs = []
        for t in range(T):
            seen = N - T + t + 1
            p = torch.softmax(k_ND[:seen] @ q_HTD[h, t] * scale, 0)
            outs.append(p @ v_ND[:seen])
        rows.append(torch.stack(outs))
    return torch.stack(rows)


def grouped(q_HTD: Tensor, k_HND: Tensor, v_HND: Tensor, scale: float) -> Tensor:
    """`_lower_right` with the shapes that `attend` hands it."""
    Hq, T, D = q_HTD.shape
    H, N, _ = k_HND.shape
    k, v = (x[:, None].expand(H, Hq // H, N, D) for x in (k_HND, v_HND))
    return _lower_right(q_HTD.reshape(H, Hq // H, T, D), k, v, scale).reshape(Hq, T, D)


@pytest.mark.parametrize(
    ("Hq", "H", "T", "N"),
    [(4, 2, 7, 7), (4, 2, 5, 12), (6, 2, 1, 9), (3, 3, 130, 131), (2, 1, 129, 300)],
)
@pytest.mark.parametrize("way", [attend, grouped])
def test_values_and_gradients(way, Hq: int, H: int, T: int, N: int) -> None:
    rng = torch.Generator().manual_seed(T * N)
    shapes = ((Hq, T, 8), (H, N, 8), (H, N, 8))
    inputs = [torch.randn(*s, generator=rng, dtype=torch.float64) for s in shapes]
    weights = torch.randn(Hq, T, 8, generator=rng, dtype=torch.float64)
    results = []
    for function in (way, oracle):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves, 0.3)
        (out * weights).sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
