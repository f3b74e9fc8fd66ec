"""What segmented execution needs to know of a contract: sizes, recipe, and which heads are long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import LockstepError

Recipe = Literal["anchors", "topk"]


@dataclass(frozen=True)
class Spec:
    """Symbols of SEMANTICS.md 1; layers and KV heads are counted from 0.

    ``max`` is S, ``carry`` M, ``sinks`` A (all in tokens), ``retrieval_size`` R (rows per KV head),
    ``retrieval_layers`` L_long, ``long_heads`` H_long: for every layer its long KV heads.
    """

    max: int
    carry: int
    sinks: int
    retrieval_size: int
    recipe: Recipe
    retrieval_layers: tuple[int, ...]
    long_heads: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "retrieval_layers", tuple(sorted(set(self.retrieval_layers))))
        object.__setattr__(
            self, "long_heads", tuple(tuple(sorted(set(h))) for h in self.long_heads)
        )
        for name, least in (("max", 1), ("carry", 0), ("sinks", 0), ("retrieval_size", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise LockstepError(
                    "LS_SPEC_VALUE",
                    f"expected {name} to be an integer >= {least}, got {value!r}",
                    "correct it in lockstep.config.ts and make the contract again",
                    name,
                )
        if self.recipe not in ("anchors", "topk"):
            raise LockstepError(
                "LS_SPEC_RECIPE",
                f"expected recipe 'anchors' or 'topk', got {self.recipe!r}",
                "correct retrieval.recipe in lockstep.config.ts",
                "recipe",
            )

    @classmethod
    def from_contract(cls, contract: Any) -> Spec:
        """From a ``lockstep.contract.Contract``, or the JSON object that it holds."""
        document = contract if isinstance(contract, Mapping) else contract.document
        return cls(
            max=document["segment"]["max"],
            carry=document["carry"]["size"],
            sinks=document["carry"]["sinks"],
            retrieval_size=document["retrieval"]["size"],
            recipe=document["retrieval"]["recipe"],
            retrieval_layers=tuple(document["retrieval"]["layers"]),
            long_heads=tuple(tuple(heads) for heads in document["heads"]["long"]),
        )

    def check(self, layers: int, kv_heads: int) -> None:
        """Refuse heads and layers the model lacks (``LS_SPEC_HEADS``, ``LS_SPEC_LAYERS``)."""
        if len(self.long_heads) != layers:
            raise LockstepError(
                "LS_SPEC_HEADS",
                f"expected long heads for {layers} layers, got {len(self.long_heads)} lists",
                "give heads.long one list per layer",
                "heads.long",
            )
        for layer, heads in enumerate(self.long_heads):
            for head in heads:
                if not 0 <= head < kv_heads:
                    raise LockstepError(
                        "LS_SPEC_HEADS",
                        f"expected KV heads in 0..{kv_heads - 1}, got {head} in layer {layer}",
                        "name KV heads that the model has",
                        f"heads.long[{layer}]",
                    )
        for layer in self.retrieval_layers:
            if not 0 <= layer < layers:
                raise LockstepError(
                    "LS_SPEC_LAYERS",
                    f"expected retrieval layers in 0..{layers - 1}, got {layer}",
                    "name layers that the model has",
                    "retrieval.layers",
                )

    def pooled(self, layer: int) -> bool:
        """Whether the layer's long heads have a pool: it is one of L_long, and R is not 0."""
        return (
            bool(self.long_heads[layer])
            and self.retrieval_size > 0
            and layer in self.retrieval_layers
        )

    def prefix_rows(self, start: int) -> int:
        """Rows of the longest prefix that a segment starting at token ``start`` can have."""
        sinks = min(self.sinks, start)
        return sinks + min(max(self.carry, self.retrieval_size), start - sinks)
