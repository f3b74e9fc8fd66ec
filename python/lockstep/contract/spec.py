"""What segmented execution needs to know of a contract: sizes, recipe, and which heads are long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..errors import LockstepError

Recipe = Literal["anchors", "topk", "blocks"]
LARGEST_WINDOW = 64  # queries that `blocks` looks back on at most


@dataclass(frozen=True)
class Spec:
    """Symbols of SEMANTICS.md 1; layers and KV heads are counted from 0.

    ``max`` is S, ``carry`` M, ``sinks`` A (all in tokens), ``retrieval_size`` R (rows per KV head),
    ``retrieval_layers`` L_long, ``long_heads`` H_long: for every layer its long KV heads.
    ``carry_heads`` "all": long heads carry too. For the recipe `blocks`: ``block`` B, ``distance``
    Delta (tokens), ``window`` W (queries).
    """

    max: int
    carry: int
    sinks: int
    retrieval_size: int
    recipe: Recipe
    retrieval_layers: tuple[int, ...]
    long_heads: tuple[tuple[int, ...], ...]
    carry_heads: Literal["local", "all"] = "local"
    block: int = 32
    distance: int = 128
    window: int = LARGEST_WINDOW

    def __post_init__(self) -> None:
        object.__setattr__(self, "retrieval_layers", tuple(sorted(set(self.retrieval_layers))))
        object.__setattr__(
            self, "long_heads", tuple(tuple(sorted(set(h))) for h in self.long_heads)
        )
        least_of = {"max": 1, "carry": 0, "sinks": 0, "retrieval_size": 0}
        least_of |= {"block": 1, "distance": 0, "window": 1}
        for name, least in least_of.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise LockstepError(
                    "LS_SPEC_VALUE",
                    f"expected {name} to be an integer >= {least}, got {value!r}",
                    "Correct it in lockstep.config.ts and make the contract again.",
                    name,
                )
        if self.recipe not in ("anchors", "topk", "blocks"):
            raise LockstepError(
                "LS_SPEC_RECIPE",
                f"expected recipe 'anchors', 'topk' or 'blocks', got {self.recipe!r}",
                "Correct retrieval.recipe in lockstep.config.ts.",
                "recipe",
            )
        if self.recipe == "blocks":
            self._check_blocks()
        if self.carry_heads not in ("local", "all") or (self.all_carry and not self.carry):
            raise LockstepError(
                "LS_SPEC_CARRY",
                f"expected heads 'local', or 'all' with a carry of at least 1 token, "
                f"got {self.carry_heads!r} with {self.carry}",
                "Correct carry.heads in lockstep.config.ts.",
                "carry_heads",
            )

    def _check_blocks(self) -> None:
        if self.retrieval_size % self.block:
            raise LockstepError(
                "LS_SPEC_BLOCK",
                f"expected a retrieval size that is a multiple of the block ({self.block} rows), "
                f"got {self.retrieval_size}",
                "Correct retrieval.size in lockstep.config.ts.",
                "retrieval_size",
            )
        if self.window > LARGEST_WINDOW:
            raise LockstepError(
                "LS_SPEC_VALUE",
                f"expected window to be at most {LARGEST_WINDOW}, got {self.window}",
                "Correct it in lockstep.config.ts and make the contract again.",
                "window",
            )

    @property
    def all_carry(self) -> bool:
        """Whether long heads carry too."""
        return self.carry_heads == "all"

    @classmethod
    def from_contract(cls, contract: Any) -> Spec:
        """From a ``lockstep.contract.Contract``, or the JSON object that it holds."""
        document = contract if isinstance(contract, Mapping) else contract.document
        carry, retrieval = document["carry"], document["retrieval"]
        sizes = (
            {name: retrieval[name] for name in ("block", "distance", "window")}
            if (retrieval["recipe"] == "blocks")
            else {}
        )
        return cls(
            max=document["segment"]["max"],
            carry=carry["size"],
            sinks=carry["sinks"],
            retrieval_size=retrieval["size"],
            recipe=retrieval["recipe"],
            retrieval_layers=tuple(retrieval["layers"]),
            long_heads=tuple(tuple(heads) for heads in document["heads"]["long"]),
            carry_heads=carry.get("heads", "local"),
            **sizes,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """What `to_json` wrote."""
        return cls(**json.loads(text))

    def check(self, layers: int, kv_heads: int) -> None:
        """Refuse heads and layers the model lacks (``LS_SPEC_HEADS``, ``LS_SPEC_LAYERS``)."""
        if len(self.long_heads) != layers:
            raise LockstepError(
                "LS_SPEC_HEADS",
                f"expected long heads for {layers} layers, got {len(self.long_heads)} lists",
                "Give heads.long one list per layer.",
                "heads.long",
            )
        for layer, heads in enumerate(self.long_heads):
            for head in heads:
                if not 0 <= head < kv_heads:
                    raise LockstepError(
                        "LS_SPEC_HEADS",
                        f"expected KV heads in 0..{kv_heads - 1}, got {head} in layer {layer}",
                        "Name KV heads that the model has.",
                        f"heads.long[{layer}]",
                    )
        for layer in self.retrieval_layers:
            if not 0 <= layer < layers:
                raise LockstepError(
                    "LS_SPEC_LAYERS",
                    f"expected retrieval layers in 0..{layers - 1}, got {layer}",
                    "Name layers that the model has.",
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
        both = self.carry + self.retrieval_size
        most = both if self.all_carry else max(self.carry, self.retrieval_size)
        return sinks + min(most, start - sinks)

    def eligible(self, stored: int) -> int:
        """How many of ``stored`` pool rows may be retrieved: what all heads carry is seen."""
        return max(0, stored - self.carry) if self.all_carry else stored

    def eligible_at(self, end: int) -> int:
        """How many rows of the pool may be retrieved at the boundary ``end`` (tokens)."""
        return self.eligible(max(0, end - self.sinks))
