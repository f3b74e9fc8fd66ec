"""What of config.json changes the model's numbers, in one form.

Counterpart of src/contract/shape.ts.

Nothing here is heavy: a contract is read without PyTorch or transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import LockstepError
from .model_type import FAMILIES, plain_type
from .shape_fields import Fields, show, unsupported
from .shape_rope import rope_of

#: By family: KV heads and head size where absent (None: follow from others), tokens promised.
_DEFAULTS: dict[str, tuple[int | None, int | None, int]] = {
    "llama": (None, None, 2048),
    "qwen2": (32, None, 32768),
    "qwen3": (32, 128, 32768),
    "mistral": (8, None, 131072),
}
#: transformers' names of activations, each for one function.
_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_new",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def _off(value: Any) -> bool:
    return value is False or value is None


def _one(value: Any) -> bool:
    return type(value) in (int, float) and value == 1


#: Switches that some runtimes follow and others pass over: they must be off.
_SWITCHES: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("bias", _off, tuple(FAMILIES)),
    ("qkv_bias", _off, tuple(FAMILIES)),
    ("qk_norm", _off, tuple(FAMILIES)),
    ("ada_rms_norm_t_cond", _off, tuple(FAMILIES)),
    ("llama_4_scaling", _off, tuple(FAMILIES)),
    ("dual_chunk_attention_config", _off, tuple(FAMILIES)),
    ("is_causal", lambda value: value is True, tuple(FAMILIES)),
    ("logit_scale", _one, tuple(FAMILIES)),
    ("partial_rotary_factor", _one, tuple(FAMILIES)),
    ("attention_bias", _off, ("mistral",)),
    ("mlp_bias", _off, ("qwen2", "qwen3", "mistral")),
)


def family_of(fields: Fields) -> str:
    """``model_type``; raises ``LS_MODEL_UNSUPPORTED`` for other families and quantized weights."""
    family = plain_type(fields.config.get("model_type"))
    if not isinstance(family, str) or family not in FAMILIES:
        raise unsupported(
            f"expected model_type {', '.join(FAMILIES)}, got {show(family)}",
            "Use a Llama, Qwen2, Qwen3 or Mistral checkpoint.",
            "model_type",
        )
    if fields.config.get("quantization_config") is not None:
        raise unsupported(
            "expected unquantized weights, got a quantization_config",
            "Use the original checkpoint; `lockstep export` quantizes for serving.",
            "quantization_config",
        )
    return family


def shape_of(fields: Fields) -> dict[str, Any]:
    """The canonical ``model`` of a config.json: a contract's field.

    Raises ``LS_MODEL_CONFIG`` for a field that is absent or of the wrong kind,
    ``LS_MODEL_UNSUPPORTED`` for what runtimes would not compute alike.
    """
    family, config = family_of(fields), fields.config
    _refuse_switches(config, family)
    _refuse_sliding_window(fields, family)
    hidden = fields.integer("hidden_size")
    heads = fields.integer("num_attention_heads")
    layers = fields.integer("num_hidden_layers")
    kv_default, _, length = _DEFAULTS[family]
    if config.get("num_key_value_heads", 0) is None and family != "mistral":
        kv_heads = heads
    else:
        kv_heads = fields.integer("num_key_value_heads", kv_default or heads)
    if heads % kv_heads:
        raise fields.bad(
            f"num_key_value_heads to divide the {heads} query heads",
            str(kv_heads),
            "num_key_value_heads",
        )
    return {
        "family": family,
        "hiddenSize": hidden,
        "intermediateSize": fields.integer("intermediate_size"),
        "layers": layers,
        "queryHeads": heads,
        "kvHeads": kv_heads,
        "headDim": _head_dim(fields, family, hidden, heads),
        "vocabulary": fields.integer("vocab_size"),
        "rope": rope_of(fields, length),
        "normEpsilon": fields.number(config.get("rms_norm_eps", 1e-6), "rms_norm_eps"),
        "activation": _activation(config),
        "attentionBias": _attention_bias(fields, family),
        "mlpBias": family == "llama" and fields.boolean("mlp_bias", False),
        "tied": fields.boolean("tie_word_embeddings", False),
    }


def _head_dim(fields: Fields, family: str, hidden: int, heads: int) -> int:
    # transformers' Llama wants this whatever head_dim says.
    if family == "llama" and hidden % heads:
        raise fields.bad(
            f"hidden_size to be a multiple of the {heads} query heads", str(hidden), "hidden_size"
        )
    split = hidden // heads
    absent = fields.config.get("head_dim", 0) is None and family in ("llama", "mistral")
    size = split if absent else fields.integer("head_dim", _DEFAULTS[family][1] or split)
    if size > 0 and size % 2 == 0:
        return size
    raise fields.bad("an even head_dim", str(size), "head_dim")


def _activation(config: Mapping[str, Any]) -> str:
    given = config.get("hidden_act", "silu")
    if isinstance(given, str) and given in _ACTIVATIONS:
        return _ACTIVATIONS[given]
    raise unsupported(
        f"expected hidden_act among {', '.join(_ACTIVATIONS)}, got {show(given)}",
        "Use a checkpoint with one of these activations.",
        "hidden_act",
    )


def _attention_bias(fields: Fields, family: str) -> str:
    if family == "qwen2":
        return "qkv"
    if family == "mistral":
        return "none"
    return "qkvo" if fields.boolean("attention_bias", False) else "none"


def _refuse_switches(config: Mapping[str, Any], family: str) -> None:
    for field, off, families in _SWITCHES:
        if field not in config or off(config[field]) or family not in families:
            continue
        raise unsupported(
            f"expected a {family} checkpoint without {field}, got {show(config[field])}",
            "Runtimes do not agree about this field: use a checkpoint without it.",
            field,
        )


def _refuse_sliding_window(fields: Fields, family: str) -> None:
    """Refuse what lets a layer slide in transformers, or in a runtime that takes it literally."""
    config = fields.config

    def refuse(got: str, fix: str, field: str) -> LockstepError:
        return unsupported(f"expected full attention in every layer, got {got}", fix, field)

    other = "This model does not fit: use one with full attention in every layer."
    types = config.get("layer_types")
    if types is not None and not isinstance(types, list):
        raise fields.bad("a list for layer_types", show(types), "layer_types")
    if types is not None:
        if any(kind != "full_attention" for kind in types):
            raise refuse("layer_types with other kinds", other, "layer_types")
        layers = fields.integer("num_hidden_layers")
        if len(types) != layers:
            raise fields.bad(f"{layers} layer_types", str(len(types)), "layer_types")
    window = config.get("sliding_window")
    if family in ("llama", "mistral"):
        if window is not None:
            raise refuse(f"sliding_window {show(window)}", other, "sliding_window")
        if family == "llama" or "sliding_window" in config:
            return
        raise refuse(
            "no sliding_window, which means 4096 for Mistral",
            'if the model has full attention, write "sliding_window": null into config.json',
            "sliding_window",
        )
    # Qwen states a window and switches it on apart, for the layers from max_window_layers on.
    stated = "sliding_window" not in config or window is not None
    if not fields.boolean("use_sliding_window", False) or not stated or types is not None:
        return
    first = fields.integer("max_window_layers", 28, least=0)
    if first >= fields.integer("num_hidden_layers"):
        return
    raise refuse(
        f"use_sliding_window from layer {first} on",
        "This model does not fit: use one with full attention in every layer "
        "(use_sliding_window: false).",
        "use_sliding_window",
    )
