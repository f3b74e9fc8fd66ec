"""Rotation by vLLM's kernel against the operator's own, in every size of head."""

from __future__ import annotations

import pytest
import torch
from lockstep.operator.rope import Rope, rotate
from lockstep.vllm.rotary import InPlaceRotation, table
from vllm.platforms import current_platform

current_platform.import_kernels()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("head_dim", [4, 8, 16, 24, 40, 64, 80, 128])
def test_rows_turn_as_the_operator_turns_them(head_dim: int, dtype: torch.dtype) -> None:
    heads, count = 3, 70
    rope = Rope(10_000.0 ** -torch.linspace(0, 1, head_dim // 2), 1.1, dtype, torch.device("cpu"))
    at = torch.randint(0, 500, (count,), generator=torch.manual_seed(head_dim))
    around = torch.randn(count + 2, (heads + 2) * head_dim, dtype=dtype)
    before = around.clone()
    inner = around[1:-1, head_dim:-head_dim]  # rows that lie apart, as K beside V does
    cos_ND, sin_ND = rope.rows(0, 500)
    expected = rotate(inner.unflatten(1, (heads, -1)), cos_ND[at, None], sin_ND[at, None])
    InPlaceRotation(table(cos_ND, sin_ND), at)(inner)
    near = {torch.float32: 2e-6, torch.bfloat16: 7e-2}[dtype]
    assert (inner.unflatten(1, (heads, -1)) - expected).abs().max() <= near
    around[1:-1, head_dim:-head_dim] = before[1:-1, head_dim:-head_dim]
    assert torch.equal(around, before)  # nothing beside the rows was touched
