"""What the exporter must know about a checkpoint: its architecture, rotation and head groups."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.model_type import PLAIN as ARCHITECTURES
from ..contract.model_type import plain_config
from ..contract.spec import Spec
from ..errors import LockstepError


@dataclass(frozen=True)
class ModelShape:
    """Shapes and switches of one checkpoint. Sizes are counts; ``inv_freq`` is float32 [D / 2]."""

    architecture: str
    layers: int
    hidden: int
    vocabulary: int
    query_heads: int
    kv_heads: int
    head_dim: int
    epsilon: float
    qk_norm: bool
    tied: bool
    inv_freq: np.ndarray
    attention_factor: float

    @property
    def group(self) -> int:
        """Query heads that share one KV head."""
        return self.query_heads // self.kv_heads


@dataclass(frozen=True)
class LayerHeads:
    """The layer_heads of one layer's KV heads (SEMANTICS.md 1).

    ``pooled``: its long heads have a pool; ``carries``: they see the carry too; ``apart``: each of
    them has a prefix of its own length, as `blocks` may give it.
    """

    local: tuple[int, ...]
    long: tuple[int, ...]
    pooled: bool
    carries: bool = False
    apart: bool = False

    @property
    def kinds(self) -> dict[str, tuple[int, ...]]:
        """KV heads by the name of what attends at once: ``local``, ``long`` or ``long0``, ..."""
        kinds = {"local": self.local} if self.local else {}
        if self.apart:
            kinds |= {f"long{i}": (head,) for i, head in enumerate(self.long)}
        elif self.long:
            kinds["long"] = self.long
        return kinds


def layer_heads(model: ModelShape, spec: Spec) -> list[LayerHeads]:
    """H_local and H_long of every layer. Raises LS_SPEC_* for a contract of another model."""
    spec.check(model.layers, model.kv_heads)
    return [
        LayerHeads(
            local=tuple(head for head in range(model.kv_heads) if head not in long),
            long=long,
            pooled=spec.pooled(layer),
            carries=spec.all_carry,
            apart=spec.pooled(layer) and spec.recipe == "blocks",
        )
        for layer, long in enumerate(spec.long_heads)
    ]


def read_model(directory: Path) -> ModelShape:
    """Read ``config.json``. Raises LS_EXPORT_MODEL for what the step graph cannot express."""
    # transformers fills in what config.json leaves out and derives the inverse frequencies.
    config = plain_config(directory)
    kind = config.model_type
    if kind not in ARCHITECTURES:
        raise _refuse(f"expected a model_type among {', '.join(ARCHITECTURES)}, got {kind!r}")
    from ..operator.model import slides

    if config.hidden_act not in ("silu", "swish"):
        raise _refuse(f"expected hidden_act silu, got {config.hidden_act!r}")
    if slides(config):
        raise _refuse(f"expected full attention in every layer, got {config.sliding_window=}")
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if head_dim % 8:
        raise _refuse(f"expected head_dim to be a multiple of 8, got {head_dim}")
    inv_freq, factor = _rotation(kind, config)
    if len(inv_freq) * 2 != head_dim:
        raise _refuse("expected a rotation of the whole head, got a partial one")
    return ModelShape(
        architecture=kind,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        query_heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        epsilon=float(config.rms_norm_eps),
        qk_norm=kind == "qwen3",
        tied=bool(config.tie_word_embeddings),
        inv_freq=inv_freq,
        attention_factor=factor,
    )


def _rotation(kind: str, config: Any) -> tuple[np.ndarray, float]:
    from ..operator.rope import FIXED_TYPES

    rope = config.rope_parameters["rope_type"]
    if rope not in FIXED_TYPES:
        raise _refuse(f"expected a rotation that does not depend on the length, got {rope!r}")
    module = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    rotary = getattr(module, f"{kind.capitalize()}RotaryEmbedding")(config)
    return rotary.inv_freq.float().numpy().copy(), float(rotary.attention_scaling)


def _refuse(message: str) -> LockstepError:
    return LockstepError(
        "LS_EXPORT_MODEL", message, "Serve this checkpoint with the torch engine instead."
    )
