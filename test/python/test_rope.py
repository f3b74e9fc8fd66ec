"""Rotation (SEMANTICS section 3): angles in float64, fixed scalings applied, others refused."""

from __future__ import annotations

import pytest
import tiny
import torch
from lockstep import LockstepError, Model, Spec
from lockstep.operator.rope import Rope, rotate

SPEC = Spec(8, 2, 1, 2, "topk", (1,), ((0,), (1,), ()))


def rope_of(rope: str, dtype: torch.dtype = torch.float64) -> tuple[Rope, torch.nn.Module]:
    module = tiny.tiny("llama", rope=rope, dtype=torch.float32)
    rotary = module.model.rotary_emb
    return Rope.of(rotary, module.config, dtype, torch.device("cpu")), rotary


@pytest.mark.parametrize("rope", tiny.ROPES)
def test_tables_are_the_float64_angles_of_the_float32_frequencies(rope: str) -> None:
    table, rotary = rope_of(rope)
    cos_ND, sin_ND = table.rows(1_000_000, 1_000_010)
    angle = torch.arange(1_000_000, 1_000_010).double()[:, None] * rotary.inv_freq.double()
    expected = rotary.attention_scaling * torch.cat((angle.cos(), angle.cos()), -1)
    assert torch.equal(cos_ND, expected)
    assert torch.equal(sin_ND[:, 4:], rotary.attention_scaling * angle.sin())
    assert torch.equal(sin_ND[:, :4], -sin_ND[:, 4:])


def test_float32_tables_are_rounded_once() -> None:
    wide, narrow = rope_of("yarn")[0], rope_of("yarn", torch.float32)[0]
    for a, b in zip(wide.rows(5, 900), narrow.rows(5, 900), strict=True):
        assert torch.equal(a.float(), b)


def test_rows_do_not_depend_on_how_the_table_grew() -> None:
    once, _ = rope_of("llama3", torch.float32)
    grown, _ = rope_of("llama3", torch.float32)
    for end in (3, 4, 90, 5000):
        grown.rows(0, end)
    assert all(map(torch.equal, once.rows(17, 4800), grown.rows(17, 4800)))


@pytest.mark.parametrize("rope", tiny.ROPES)
def test_rotation_equals_the_stock_one(rope: str) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    table, rotary = rope_of(rope, torch.float32)
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0))
    cos, sin = rotary(x, torch.arange(9)[None])
    expected, _ = apply_rotary_pos_emb(x[None], x[None], cos, sin)
    assert (rotate(x, *table.rows(0, 9)) - expected[0]).abs().max() < 2e-6


def test_bfloat16_modules_keep_their_frequencies() -> None:
    """``.to(bfloat16)`` rounds a module's buffers; the tables must not see that."""
    module = tiny.tiny("llama", dtype=torch.float32)
    exact = module.model.rotary_emb.inv_freq.double()
    module.to(torch.bfloat16)
    assert torch.equal(Model.from_module(module, SPEC).rope.inv_freq_F, exact)


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "factor": 2.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0] * 4,
            "original_max_position_embeddings": 64,
        },
    ],
)
def test_length_dependent_scaling_is_refused(parameters: dict) -> None:
    module = tiny.tiny("llama")
    module.config.rope_parameters = parameters
    with pytest.raises(LockstepError) as caught:
        Model.from_module(module, SPEC)
    assert caught.value.code == "LS_ROPE_SCALING"
    assert parameters["rope_type"] in caught.value.message and caught.value.fix
