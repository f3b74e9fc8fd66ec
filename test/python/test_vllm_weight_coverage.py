"""Weight coverage, on small modules that load as vLLM does: stack, shard, pad, skip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lockstep.errors import LockstepError
from lockstep.vllm.weight_coverage import WeightCoverage
from torch import Tensor, nn

Weights = dict[str, Tensor]


class Stacked(nn.Module):
    """A layer with q and k in one parameter, and an output projection without a bias."""

    def __init__(self, ranks: int = 1, tie: bool = False, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.config = SimpleNamespace(tie_word_embeddings=tie)
        self.ranks = ranks
        self.qk_proj = nn.Linear(4, 8 // ranks, dtype=dtype)
        self.o_proj = nn.Linear(4, 4, bias=False, dtype=dtype)
        self.embed_tokens = nn.Embedding(8, 4, dtype=dtype)  # rows 6 and 7 pad the vocabulary
        self.embed_tokens.shard_indices = SimpleNamespace(num_org_elements=6)  # type: ignore[assignment]
        if not tie:
            self.lm_head = nn.Linear(4, 6, bias=False, dtype=dtype)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """As upstream: what has no place, and is a bias or tied, is skipped without a word."""
        own, loaded = dict(self.named_parameters()), set()
        each = 4 // self.ranks
        for name, weight in weights:
            module, _, part = name.rpartition(".")
            if module in ("q_proj", "k_proj"):
                at = 0 if module == "q_proj" else each
                parameter = own[f"qk_proj.{part}"]
                parameter.data[at : at + each].copy_(weight.narrow(0, 0, each))
                loaded.add(f"qk_proj.{part}")
            elif name in own:
                own[name].data[: len(weight)].copy_(weight)
                own[name].data[len(weight) :].fill_(0)
                loaded.add(name)
        return loaded


def checkpoint() -> Weights:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "q_proj.weight": (4, 4),
        "q_proj.bias": (4,),
        "k_proj.weight": (4, 4),
        "k_proj.bias": (4,),
        "o_proj.weight": (4, 4),
        "embed_tokens.weight": (6, 4),
        "lm_head.weight": (6, 4),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def load(model: Stacked, weights: Weights) -> None:
    with WeightCoverage(model) as coverage:
        # One after the other, as a file is read: a tensor may lie where a skipped one lay.
        model.load_weights(coverage.handed((name, one.clone()) for name, one in weights.items()))
    coverage.check()


def refused(model: Stacked, weights: Weights) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        load(model, weights)
    assert caught.value.code == "LS_VLLM_WEIGHTS" and caught.value.fix
    return caught.value


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_that_fits(ranks: int, dtype: torch.dtype) -> None:
    weights, model = checkpoint(), Stacked(ranks, dtype=dtype)
    load(model, weights)
    assert torch.equal(model.o_proj.weight, weights["o_proj.weight"].to(dtype))


def test_a_bias_that_has_no_place() -> None:
    """Qwen3 under vLLM: nothing else says that `o_proj.bias` was dropped."""
    error = refused(Stacked(), checkpoint() | {"o_proj.bias": torch.ones(4)})
    assert error.field == "o_proj.bias" and "o_proj.bias" in error.message


def test_every_dropped_tensor_counts() -> None:
    more = {"o_proj.bias": torch.ones(4), "q_norm.weight": torch.ones(4)}
    assert "o_proj.bias and 1 more" in refused(Stacked(), more | checkpoint()).message


@pytest.mark.parametrize(
    "name", ["k_proj.weight", "k_proj.bias", "o_proj.weight", "lm_head.weight"]
)
def test_a_parameter_that_nobody_filled(name: str) -> None:
    weights = checkpoint()
    del weights[name]
    error = refused(Stacked(), weights)
    assert error.field == name.replace("k_proj", "qk_proj")


def test_a_row_too_few_of_the_vocabulary() -> None:
    weights = checkpoint()
    weights["embed_tokens.weight"] = weights["embed_tokens.weight"][:5]
    assert "20 of 24" in refused(Stacked(), weights).message


def test_a_head_that_is_the_embedding_again() -> None:
    weights = checkpoint()
    weights["lm_head.weight"] = weights["embed_tokens.weight"]
    load(Stacked(tie=True), weights)


def test_a_tied_head_that_is_another() -> None:
    assert refused(Stacked(tie=True), checkpoint()).field == "lm_head.weight"


def test_a_tied_checkpoint_without_a_head() -> None:
    weights = checkpoint()
    del weights["lm_head.weight"]
    load(Stacked(tie=True), weights)


def test_tables_of_the_rotation_are_derived() -> None:
    load(Stacked(), checkpoint() | {"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)})


def _memory_shared() -> Weights:
    """Tensors side by side in one file, as safetensors maps them."""
    weights = checkpoint() | {"o_proj.bias": torch.ones(4)}
    flat = torch.cat([one.flatten() for one in weights.values()])
    parts = flat.split([one.numel() for one in weights.values()])
    pairs = zip(weights.items(), parts, strict=True)
    return {name: part.view(one.shape) for (name, one), part in pairs}


@pytest.mark.parametrize("keep", [lambda one: one, lambda one: one[:]], ids=["whole", "view"])
def test_tensors_in_one_memory_are_told_apart(keep: Callable[[Tensor], Any]) -> None:
    model, weights = Stacked(), _memory_shared()
    with WeightCoverage(model) as coverage:
        model.load_weights(coverage.handed((name, keep(one)) for name, one in weights.items()))
    with pytest.raises(LockstepError) as caught:
        coverage.check()
    assert caught.value.field == "o_proj.bias"
