"""Random tiny models of the four architectures, with weights large enough that errors show."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral")
CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
#: Scaled rotations that do not depend on the length.
ROPES: dict[str, dict] = {
    "default": {"rope_type": "default", "rope_theta": 10000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
        "attention_factor": 1.3,
    },
    "yarn-derived": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}
VOCABULARY = 61


def tiny(
    architecture: str = "llama",
    *,
    seed: int = 0,
    layers: int = 3,
    kv_heads: int = 2,
    group: int = 2,
    head_dim: int = 8,
    hidden: int | None = None,
    vocabulary: int = VOCABULARY,
    rope: str = "default",
    tied: bool = False,
    bias: bool = False,
    dtype: torch.dtype = torch.float64,
) -> nn.Module:
    """A Hugging Face model in eval mode; ``bias`` adds projection biases where the config can."""
    config_class, model_class = CLASSES[architecture]
    heads = kv_heads * group
    hidden = hidden or (20 if 20 % heads == 0 else 4 * heads)  # transformers wants a multiple
    options: dict = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": tied,
        "rope_parameters": dict(ROPES[rope]),
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if architecture == "llama":
        options |= {"attention_bias": bias, "mlp_bias": bias}
    elif architecture == "qwen3":
        options |= {"attention_bias": bias}
    elif architecture == "mistral":
        options |= {"sliding_window": None}
    config = config_class(**options)
    model = model_class(config).to(dtype).eval()
    enlarge(model, seed)
    return model


@torch.no_grad()
def enlarge(model: nn.Module, seed: int) -> None:
    """Random weights that keep activations near one and attention peaked (logit deviation ~2)."""
    generator = torch.Generator().manual_seed(seed)

    def normal(weight: Tensor, deviation: float, mean: float = 0.0) -> None:
        noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_((noise * deviation + mean).to(weight.dtype))

    tied = model.config.tie_word_embeddings
    for name, weight in sorted(model.named_parameters()):
        if "norm" in name:
            normal(weight, 0.2, 1.0)
        elif name.endswith("bias"):
            normal(weight, 0.3)
        elif "embed_tokens" in name:
            normal(weight, 0.4 if tied else 1.0)
        else:
            gain = 1.6 if ("q_proj" in name or "k_proj" in name) else 1.2
            normal(weight, gain / weight.shape[1] ** 0.5)


def text(length: int, seed: int = 0, *, vocabulary: int = VOCABULARY, repeat: int = 0) -> list[int]:
    """Random token ids. ``repeat``: only this many different ids, so that keys tie exactly."""
    generator = torch.Generator().manual_seed(1000 + seed)
    ids = torch.randint(repeat or vocabulary, (length,), generator=generator).tolist()
    return [(7 * token + 3) % vocabulary for token in ids] if repeat else ids
