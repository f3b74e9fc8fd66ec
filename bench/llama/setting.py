"""What is measured: a Llama's shape, and the paper's segments for it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lockstep.contract.spec import Spec

ROOT = Path(__file__).resolve().parent.parent.parent
#: Shapes by name: the recipe's, and one for trials of the script itself.
SHAPES: dict[str, Any] = {
    "llama-2-7b": ROOT / "examples" / "llama-2-7b" / "shape.json",
    "small": {
        "vocab_size": 1000,
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "tie_word_embeddings": False,
    },
}


@dataclass(frozen=True)
class Shape:
    """Names and meaning as in a checkpoint's config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    tie_word_embeddings: bool

    @property
    def layer_products(self) -> int:
        """Weights of one layer that every token is multiplied with: attention's four, the MLP's."""
        query = self.num_attention_heads * self.head_dim
        kv = self.num_key_value_heads * self.head_dim
        return self.hidden_size * (2 * query + 2 * kv + 3 * self.intermediate_size)

    @property
    def parameters(self) -> int:
        """All weights: layers with two norms each, embeddings, head, last norm."""
        layers = self.num_hidden_layers * (self.layer_products + 2 * self.hidden_size)
        tables = self.vocab_size * self.hidden_size * (1 if self.tie_word_embeddings else 2)
        return layers + tables + self.hidden_size


@dataclass(frozen=True)
class Setting:
    """A shape under a contract: S, M, R and A in tokens (SEMANTICS.md 1).

    Four layers retrieve, spread as in examples/llama-2-7b; half of each layer's KV heads are long,
    in all layers: the ceilings of SEMANTICS.md 8 come out for this partition.
    """

    name: str
    shape: Shape
    segment: int = 4096
    carry: int = 512
    retrieval: int = 512
    sinks: int = 0

    @property
    def spec(self) -> Spec:
        layers = self.shape.num_hidden_layers
        long = tuple(range(self.shape.num_key_value_heads // 2))
        return Spec(
            max=self.segment,
            carry=self.carry,
            sinks=self.sinks,
            retrieval_size=self.retrieval,
            recipe="anchors",
            retrieval_layers=tuple(layers // 4 + 3 * layers * k // 16 for k in range(4)),
            long_heads=(long,) * layers,
        )

    @property
    def document(self) -> dict[str, object]:
        """What a raw result says of it."""
        return asdict(self) | {"retrievalLayers": list(self.spec.retrieval_layers)}


def shape_of(name: str) -> tuple[str, Shape]:
    """A shape by its name, or from a JSON file with the fields of `Shape` (others are ignored)."""
    found = SHAPES.get(name, Path(name))
    fields = json.loads(found.read_text()) if isinstance(found, Path) else found
    own = {key: fields[key] for key in Shape.__dataclass_fields__}
    return (name if name in SHAPES else Path(name).stem), Shape(**own)
