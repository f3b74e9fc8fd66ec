"""The experiments' cells: the config of base/, scaled to a budget, with one factor changed.

A variant is what a config says; a cell is a variant and a seed. Variants stand in the order in
which they are worth running; all of them are run for one seed before the next seed begins.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

#: Layers whose KV heads all retrieve: every fourth; fewer are a subset of them.
LONG_LAYERS = {0: [], 2: [8, 20], 4: [4, 8, 16, 20], 6: [4, 8, 12, 16, 20, 24]}
LAYERS, KV_HEADS = 30, 3  # SmolLM2-135M


@dataclass(frozen=True)
class Budget:
    """How large a training is. ``segment`` is S; the base's sizes keep their shares of it."""

    name: str
    segment: int
    sequence: int
    accumulate: int
    steps: int
    learning_rate: float
    device: str

    @property
    def lengths(self) -> list[int]:
        """1x, 2x, 4x and 8x of the training sequence."""
        return [self.sequence * times for times in (1, 2, 4, 8)]


BUDGETS = {
    # What two cores do in a few minutes a cell.
    "small": Budget("small", 128, 512, 1, 12, 3e-4, "cpu"),
    # The paper's recipe scaled down, for a machine with a GPU.
    "gpu": Budget("gpu", 1024, 4096, 8, 1000, 3e-4, "cuda"),
}


@dataclass(frozen=True)
class Variant:
    """What one config says. ``factor``: what it changes, None for the two main ones.

    far: full execution is measured too.
    """

    name: str
    factor: str | None = None
    mode: str = "segmented"
    truncation: int = 1
    carry: float = 1 / 4  # share of S
    sinks: int = 4
    long_layers: int = 6
    recipe: str = "anchors"
    policy: str = "sentences"
    far: bool = False
    trained: bool = True


MAIN = Variant("segmented", far=True)
VARIANTS = [
    MAIN,
    Variant("full", "training", mode="full", far=True),
    Variant("k0", "K", truncation=0),
    Variant("layers0", "long layers", long_layers=0),
    Variant("sinks0", "sinks", sinks=0),
    Variant("m0", "M", carry=0),
    Variant("topk", "recipe", recipe="topk"),
    Variant("fixed", "boundaries", policy="fixed"),
    Variant("k2", "K", truncation=2),
    Variant("layers2", "long layers", long_layers=2),
    Variant("layers4", "long layers", long_layers=4),
    Variant("m8", "M", carry=1 / 8),
    Variant("sinks1", "sinks", sinks=1),
    Variant("sinks16", "sinks", sinks=16),
]
#: The same contracts without any training: one measurement each, no seeds. K is not in a contract.
UNTRAINED = [
    replace(variant, name=f"untrained-{variant.name}", trained=False)
    for variant in VARIANTS
    if variant.factor not in ("training", "K")
]


@dataclass(frozen=True)
class Cell:
    """One training and its measurements, or the measurements of an untrained variant."""

    variant: Variant
    budget: Budget
    seed: int | None = None
    texts: dict[str, dict] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.variant.name if self.seed is None else f"{self.variant.name}-seed{self.seed}"

    def settings(self) -> dict:
        """Everything that decides a cell's numbers, in the config's words."""
        v, b = self.variant, self.budget
        layers = LONG_LAYERS[v.long_layers]
        retrieval = {"size": b.segment if layers else 0, "layers": layers}
        config = {
            "policy": v.policy,
            "segment": {
                "min": b.segment if v.policy == "fixed" else b.segment * 3 // 4,
                "max": b.segment,
            },
            "carry": {"size": int(b.segment * v.carry), "sinks": v.sinks},
            "retrieval": {**retrieval, "recipe": v.recipe} if layers else retrieval,
            "heads": {
                "long": [
                    list(range(KV_HEADS)) if layer in layers else [] for layer in range(LAYERS)
                ]
            },
        }
        training = {
            "steps": b.steps,
            "sequence": b.sequence,
            "batch": 1,
            "truncation": v.truncation,
            "learningRate": b.learning_rate,
            "warmup": 0.1,
            "trainable": "attention",
        }
        training |= {"accumulate": b.accumulate} if b.accumulate > 1 else {}
        out = {"variant": v.name, "seed": self.seed, "budget": b.name, "contract": config}
        out |= {"mode": v.mode, "training": training} if v.trained else {}
        return out | {"texts": self.texts, "lengths": b.lengths}

    def identity(self) -> str:
        """Two results with the same identity are results of the same experiment."""
        text = json.dumps(self.settings(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def config(self, base: str, root: str, out: Path) -> str:
        """The config file: the base's, and what this cell says instead.

        base, root: the base's config and the repository, relative to the file.
        """
        s = self.settings()
        contract = dict(s["contract"])
        name = contract.pop("policy")
        policy = f"fixed({{ size: {self.budget.segment} }})" if name == "fixed" else f"{name}()"
        held = [text["held"] for text in self.texts.values() if text["held"]]
        data = {"train": [f"{root}/.lockstep/texts/shakespeare/*.txt", *held]}
        fields = [f"  out: {json.dumps(str(out))},", f"  policy: {policy},"]
        fields += [f"  {key}: {json.dumps(value)}," for key, value in contract.items()]
        fields += [f"  data: {json.dumps(data)},"]
        training = s.get("training", {"steps": 1})
        lines = [
            f"import {{ defineConfig, {name} }} from 'lockstep';",
            f"import base from '{base}';",
            "",
            "export default defineConfig({",
            "  ...base,",
            f"  model: '{root}/.lockstep/models/smollm2-135m-instruct',",
            *fields,
            f"  training: {json.dumps(training)},",
            "});",
        ]
        return "\n".join(lines) + "\n"


def cells(budget: Budget, seeds: list[int], texts: dict[str, dict]) -> list[Cell]:
    """Every cell in the order of its worth: one seed for all variants before the next seed."""
    rows = [Cell(v, budget, seeds[0], texts) for v in VARIANTS]
    rows.insert(2, Cell(UNTRAINED[0], budget, None, texts))
    rows += [Cell(v, budget, None, texts) for v in UNTRAINED[1:]]
    return rows + [Cell(v, budget, s, texts) for s in seeds[1:] for v in VARIANTS]
