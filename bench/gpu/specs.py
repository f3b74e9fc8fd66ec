"""The arms and the ways of running a model: sizes of the measurement, and of its dry run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from lockstep.contract.spec import Spec

HERE = Path(__file__).resolve().parent
#: Arm -> (mode of the trainer, sinks A, truncation K, number of seeds).
ARMS = {
    "full": ("full", 4, 1, 4),
    "A4": ("segmented", 4, 1, 4),
    "A0": ("segmented", 0, 1, 2),
    "A4K0": ("segmented", 4, 0, 2),
}
SLOW = 130_000  # tokens a second; below it the arm A4K0 is dropped


@dataclass(frozen=True)
class Sizes:
    """Sizes in tokens; ``heads``: long KV heads; ``samples``: needles of a kind at a length."""

    segment: int = 512
    carry: int = 64
    retrieval: int = 128
    block: int = 32
    heads: int = 24
    sequence: int = 4096
    batch: int = 8
    steps: int = 128
    lengths: tuple[int, ...] = (4096, 8192, 16_384, 32_768)
    samples: int = 50
    other: int = 256  # the other S of a model served otherwise than trained
    pack: int = 131_072  # tokens that an evaluation runs at once
    seeds: int = 4

    @property
    def far(self) -> int:
        """4x of the trained length, where the verdict on perplexity is read."""
        return 4 * self.sequence


DRY = Sizes(32, 8, 16, 8, 2, 384, 2, 2, (384, 768, 1536), 2, 16, 3072, 1)


def order(seeds: int) -> list[tuple[int, str]]:
    """(seed, arm) in the order of running: seed by seed, so that a cut-off run has pairs."""
    return [(s, arm) for s in range(seeds) for arm, how in ARMS.items() if s < how[3]]


def long_heads(layers: int, sizes: Sizes) -> tuple[tuple[int, ...], ...]:
    """SmolLM2's heads that copy (bench/recall/heads.json), else one in each of the first layers."""
    path = HERE.parent / "recall" / "heads.json"
    first = [(layer, 0) for layer in range(layers)]
    found = json.loads(path.read_text("utf-8"))["heads"] if layers == 30 else first
    chosen = found[: sizes.heads]
    return tuple(tuple(sorted(h for at, h in chosen if at == layer)) for layer in range(layers))


def spec(layers: int, sizes: Sizes, sinks: int, segment: int | None = None) -> Spec:
    long = long_heads(layers, sizes)
    return Spec(
        segment or sizes.segment,
        sizes.carry,
        sinks,
        sizes.retrieval,
        "blocks",
        tuple(layer for layer in range(layers) if long[layer]),
        long,
        carry_heads="all",
        block=sizes.block,
    )


def window(of: Spec, layers: int, kv_heads: int, length: int) -> Spec:
    """A window with sinks that holds as many rows of KV as ``of`` does after ``length`` tokens.

    Rows a head: local A + M + S; long A + M + R + S and the pool's length - A. The window moves a
    segment at a time.
    """
    count = sum(len(heads) for heads in of.long_heads)
    every = kv_heads * layers * (of.sinks + of.carry + of.max)
    rows = every + count * (of.retrieval_size + max(0, length - of.sinks))
    carry = rows // (kv_heads * layers) - of.sinks - of.max
    none = tuple(() for _ in range(layers))
    return dataclasses.replace(
        of,
        carry=carry,
        retrieval_size=0,
        retrieval_layers=(),
        long_heads=none,
        recipe="topk",
        carry_heads="local",
    )


def document(of: Spec) -> dict:
    """The parts of a contract that the operator reads."""
    return {
        "segment": {"min": 1, "max": of.max, "align": 1},
        "carry": {"size": of.carry, "sinks": of.sinks, "heads": of.carry_heads},
        "retrieval": {
            "size": of.retrieval_size,
            "recipe": of.recipe,
            "layers": list(of.retrieval_layers),
            "block": of.block,
            "distance": of.distance,
            "window": of.window,
        },
        "heads": {"long": [list(heads) for heads in of.long_heads]},
    }
