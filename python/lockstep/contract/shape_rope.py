"""The rotation of a config.json (counterpart of src/contract/shape-rope.ts)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..json_text import number
from .shape_fields import Fields, show, unsupported

FIXED_TYPES = ("default", "linear", "llama3", "yarn")
_ORIGINAL = "original_max_position_embeddings"


def rope_of(fields: Fields, length: int) -> dict[str, Any]:
    """``model.rope`` of a contract, from ``rope_parameters`` of transformers 5, or from
    ``rope_scaling`` and ``rope_theta``. ``length``: max_position_embeddings where there is none.

    Raises ``LS_MODEL_UNSUPPORTED`` for what depends on the length, differs by layer or turns a part
    of a head, ``LS_MODEL_CONFIG`` for a number that is missing or none.
    """
    name, given = _chosen(fields)
    kind = given["rope_type"] if "rope_type" in given else given.get("type")
    if kind is None and "rope_type" not in given:
        kind = "default"
    if not isinstance(kind, str) or kind not in FIXED_TYPES:
        raise unsupported(
            "expected a RoPE scaling that does not depend on the length "
            f"({', '.join(FIXED_TYPES)}), got {show(kind)}",
            "This model does not fit: use one with a fixed RoPE scaling, such as the one from "
            "before its context was extended.",
            f"{name}.rope_type",
        )
    _refuse_parts(given, name)

    def take(field: str) -> float:
        return fields.number(given.get(field), f"{name}.{field}")

    if "rope_theta" in given:
        theta = take("rope_theta")
    else:
        theta = fields.number(fields.config.get("rope_theta", 10_000), "rope_theta")
    if kind == "default":
        return {"type": kind, "theta": theta}
    if kind == "linear":
        return {"type": kind, "theta": theta, "factor": take("factor")}
    original = _original(fields, given, name, length)
    if kind == "llama3":
        return {
            "type": kind,
            "theta": theta,
            "factor": take("factor"),
            "originalLength": original,
            "lowFrequencyFactor": take("low_freq_factor"),
            "highFrequencyFactor": take("high_freq_factor"),
        }
    return {
        "type": kind,
        "theta": theta,
        "originalLength": original,
        **_yarn(fields, given, name, original, length),
    }


def _yarn(
    fields: Fields, given: Mapping[str, Any], name: str, original: float, length: int
) -> dict[str, Any]:
    def optional(field: str) -> float | None:
        value = given.get(field)
        if value is None or (type(value) in (int, float) and value == 0):
            return None
        return fields.number(value, f"{name}.{field}")

    attention = given.get("attention_factor")
    if attention is not None:
        attention = fields.number(attention, f"{name}.attention_factor")
    mscale, mscale_all = optional("mscale"), optional("mscale_all_dim")
    # transformers takes the two together, and only where no factor is given.
    scaled = attention is None and mscale is not None and mscale_all is not None
    truncate = given.get("truncate", True)
    if not isinstance(truncate, bool):
        field = f"{name}.truncate"
        raise fields.bad(f"true or false for {field}", show(truncate), field)
    if "factor" in given and given["factor"] is None:
        factor = number(_length(fields, length) / original)
    else:
        factor = fields.number(given.get("factor"), f"{name}.factor")
    return {
        "factor": factor,
        "attentionFactor": attention,
        "mscale": mscale if scaled else None,
        "mscaleAllDim": mscale_all if scaled else None,
        "betaFast": optional("beta_fast") or 32,
        "betaSlow": optional("beta_slow") or 1,
        "truncate": truncate,
    }


def _chosen(fields: Fields) -> tuple[str, Mapping[str, Any]]:
    """The object that transformers reads: rope_scaling wherever it says anything."""
    for name in ("rope_scaling", "rope_parameters"):
        value = fields.config.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise fields.bad(f"an object for {name}", show(value), name)
        if value:
            return name, value
    return "rope_parameters", {}


def _refuse_parts(given: Mapping[str, Any], name: str) -> None:
    for field, value in given.items():
        whole = type(value) in (int, float) and value == 1
        nested = isinstance(value, dict | list)
        if not nested and (field != "partial_rotary_factor" or whole):
            continue
        raise unsupported(
            "expected one rotation of whole heads in every layer, "
            f"got {show(value)} for {name}.{field}",
            "Use a checkpoint with the same RoPE settings in all layers.",
            f"{name}.{field}",
        )


def _original(fields: Fields, given: Mapping[str, Any], name: str, length: int) -> float:
    # transformers lets the one outside win once a rotation is computed.
    if _ORIGINAL in fields.config:
        return fields.number(fields.config[_ORIGINAL], _ORIGINAL)
    if _ORIGINAL in given:
        return fields.number(given[_ORIGINAL], f"{name}.{_ORIGINAL}")
    return number(_length(fields, length))


def _length(fields: Fields, length: int) -> int:
    return fields.integer("max_position_embeddings", length)
