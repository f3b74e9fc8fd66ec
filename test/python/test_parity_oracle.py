"""The reference itself: one segment of it is the stock model; more segments are SEMANTICS."""

from __future__ import annotations

import pytest
import tiny
import torch
from oracle.model import Oracle, Spec, segments
from torch import nn

torch.set_num_threads(1)


def float64_norms(model: nn.Module) -> None:
    """Hugging Face's RMSNorm and rotary tables compute in float32 even for a float64 model."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda x, m=module: (
                m.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + m.variance_epsilon)
            )
        elif type(module).__name__.endswith("RotaryEmbedding"):

            def rotary(x, position_ids, m=module):
                angle = position_ids[..., None].double() * m.inv_freq.double()
                both = torch.cat([angle, angle], dim=-1)
                return both.cos() * m.attention_scaling, both.sin() * m.attention_scaling

            module.forward = rotary


def plain_spec(model: nn.Module, **changes) -> Spec:
    options = {
        "carry": 0,
        "sinks": 0,
        "retrieval_size": 0,
        "recipe": "anchors",
        "retrieval_layers": (),
        "long_heads": ((),) * model.config.num_hidden_layers,
    }
    return Spec(**(options | changes))


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().double() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
@pytest.mark.parametrize("rope", tiny.ROPES)
def test_one_segment_is_the_stock_model(architecture: str, rope: str) -> None:
    bias, tied = rope in ("linear", "yarn"), rope in ("llama3", "yarn")
    model = tiny.tiny(architecture, rope=rope, seed=3, bias=bias, tied=tied)
    ids = tiny.text(24, 1)
    logits, found, _ = Oracle(weights_of(model), model.config, plain_spec(model)).forward(ids, [])
    float64_norms(model)
    with torch.no_grad():
        stock = model(torch.tensor([ids])).logits[0]
    assert stock.dtype == torch.float64 and found == []
    assert (logits - stock).abs().max() < 1e-12
    assert logits.std() > 0.5  # enlarged weights: an error would show


def test_a_carry_of_everything_is_full_attention() -> None:
    """Local heads whose carry reaches back to the start see what the stock model sees."""
    model = tiny.tiny("qwen3", seed=5)
    ids = tiny.text(30, 2)
    weights = weights_of(model)
    whole, _, _ = Oracle(weights, model.config, plain_spec(model)).forward(ids, [])
    for sinks in (0, 4, 11):
        spec = plain_spec(model, carry=30, sinks=sinks)
        cut, found, _ = Oracle(weights, model.config, spec).forward(ids, [2, 9, 20, 21, 30])
        assert (cut - whole).abs().max() < 1e-12
        assert [boundary.at for boundary in found] == [2, 9, 20, 21, 30]


def test_a_pool_returned_whole_is_full_attention() -> None:
    """Long heads that retrieve the whole pool see everything, at its true distance."""
    model = tiny.tiny("llama", seed=6)
    ids = tiny.text(26, 3)
    weights = weights_of(model)
    whole, _, _ = Oracle(weights, model.config, plain_spec(model)).forward(ids, [])
    for recipe in ("anchors", "topk"):
        spec = plain_spec(model, carry=99, sinks=4, retrieval_size=99, recipe=recipe,
                          retrieval_layers=(0, 1, 2), long_heads=((0, 1), (1,), (0,)))  # fmt: skip
        cut, _, _ = Oracle(weights, model.config, spec).forward(ids, [3, 8, 19])
        assert (cut - whole).abs().max() < 1e-12


def test_segments_tile_a_text() -> None:
    assert segments([3, 5], 9) == [(0, 3), (3, 5), (5, 9)]
    assert segments([3, 9], 9) == [(0, 3), (3, 9)]
    assert segments([], 1) == [(0, 1)]
