"""``meta.json`` beside an exported graph: bound to the contract and sealed (counterpart of
src/engines/onnx/meta-check.ts)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..contract.reader import canonical_json
from ..errors import LockstepError
from ..json_text import loads

FORMAT = 3
FILES = ("step.onnx", "step.onnx.data", "products.onnx", "blocks.onnx")
_TOLERANCE = 1e-5  # transformers computes frequencies in float32


def write(file: Path, meta: dict[str, Any]) -> None:
    """``meta`` with its format and its seal."""
    whole = {"format": FORMAT, **meta}
    text = json.dumps({**whole, "seal": seal_of(whole)}, indent=1, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")


def seal_of(meta: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of all but ``seal``."""
    sealed = {name: value for name, value in meta.items() if name != "seal"}
    return hashlib.sha256(canonical_json(sealed)).hexdigest()


def read(file: Path, contract: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """A graph's ``meta.json``: the contract's, as it was exported, and so are the files it names.

    Raises ``LS_ENGINE_EXPORT`` without one, ``LS_ENGINE_DIGEST``, ``LS_ENGINE_CORRUPT``,
    ``LS_ENGINE_STALE`` for one of other weights.
    """
    try:
        meta = loads(file.read_bytes())
    except OSError as error:
        raise _refuse(
            "EXPORT", f"an exported graph, got {type(error).__name__} for {file}"
        ) from error
    except ValueError as error:
        raise _refuse("CORRUPT", f"JSON in {file}, got: {error}") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise _refuse("CORRUPT", f"{file} as it was exported, got another format", "format")
    if meta.get("digest") != contract["digest"]:
        got = f"a graph exported under the contract {contract['digest']}, got {meta.get('digest')}"
        raise _refuse("DIGEST", got, "digest")
    other = _other_model(meta.get("model"), contract["model"])
    if other is not None:
        field, expected, actual = other
        raise _refuse("CORRUPT", f"{field} {expected} in {file}, got {actual}", field)
    if meta.get("seal") != seal_of(meta) or meta.get("precision") != precision:
        raise _refuse("CORRUPT", f"{file} as it was exported, got other content", "seal")
    for name, expected in meta["files"].items():
        if name not in FILES or _described(file.parent / name) != expected:
            raise _refuse("CORRUPT", f"{file.parent / name} as it was exported, got other content")
    recorded = contract["trained"]["weights"]["sha256"]
    if meta["weights"] != recorded:
        got = f"a graph of the weights {recorded}, as lockstep.json records them, got one of "
        raise _refuse("STALE", f"{got}{meta['weights']}", "weights")
    return meta


def _described(file: Path) -> dict[str, Any] | None:
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"bytes": file.stat().st_size, "sha256": found}
    except OSError:
        return None


def _other_model(model: Any, shape: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    if not isinstance(model, dict):
        return "model", "an object", model
    inverse, factor = rotation_of(shape)
    pairs = [("model.architecture", shape["family"], model.get("architecture"))]
    names = ("layers", "vocabulary", "queryHeads", "kvHeads", "headDim")
    pairs += [(f"model.{name}", shape[name], model.get(name)) for name in names]
    for field, expected, actual in pairs:
        if expected != actual:
            return field, expected, actual
    given = model.get("invFreq")
    if not isinstance(given, list) or len(given) != len(inverse):
        return "model.invFreq.length", len(inverse), given
    for at, expected in enumerate(inverse):
        if not _near(given[at], expected):
            return f"model.invFreq[{at}]", expected, given[at]
    if _near(model.get("attentionFactor"), factor):
        return None
    return "model.attentionFactor", factor, model.get("attentionFactor")


def _near(actual: Any, expected: float) -> bool:
    number = type(actual) in (int, float)
    return number and abs(actual - expected) <= _TOLERANCE * abs(expected)


def rotation_of(shape: Mapping[str, Any]) -> tuple[list[float], float]:
    """Inverse frequencies [D / 2] and the factor of cos and sin that a contract's ``model`` says.

    In float64; transformers rounds to float32 on the way.
    """
    rope, dim = shape["rope"], shape["headDim"]
    plain = [rope["theta"] ** (-2 * i / dim) for i in range(dim // 2)]
    if rope["type"] == "default":
        return plain, 1.0
    if rope["type"] == "linear":
        return [f / rope["factor"] for f in plain], 1.0
    if rope["type"] == "llama3":
        return [_llama3(f, rope) for f in plain], 1.0
    return _yarn(plain, rope, dim), _attention_factor(rope)


def _llama3(frequency: float, rope: Mapping[str, Any]) -> float:
    low, high = rope["lowFrequencyFactor"], rope["highFrequencyFactor"]
    original, wave = rope["originalLength"], 2 * math.pi / frequency
    if wave < original / high:
        return frequency
    if wave > original / low:
        return float(frequency / rope["factor"])
    smooth = (original / wave - low) / (high - low)
    return float((1 - smooth) * frequency / rope["factor"] + smooth * frequency)


def _yarn(plain: list[float], rope: Mapping[str, Any], dim: int) -> list[float]:
    def turns(count: float) -> float:
        length = rope["originalLength"] / (count * 2 * math.pi)
        return float(dim * math.log(length) / (2 * math.log(rope["theta"])))

    low, high = turns(rope["betaFast"]), turns(rope["betaSlow"])
    if rope["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    out = []
    for at, frequency in enumerate(plain):
        ramp = min(1.0, max(0.0, (at - low) / (high - low)))
        out.append(frequency / rope["factor"] * ramp + frequency * (1 - ramp))
    return out


def _attention_factor(rope: Mapping[str, Any]) -> float:
    def scale(by: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * by * math.log(rope["factor"]) + 1

    if rope["attentionFactor"] is not None:
        return float(rope["attentionFactor"])
    if rope["mscale"] is None:
        return scale(1)
    return scale(rope["mscale"]) / scale(rope["mscaleAllDim"])


def _refuse(kind: str, what: str, field: str | None = None) -> LockstepError:
    return LockstepError(
        f"LS_ENGINE_{kind}",
        f"expected {what}",
        "Export it again: lockstep export DIR",
        field,
    )
