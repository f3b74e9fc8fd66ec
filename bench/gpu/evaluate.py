"""Perplexity and needles of one model, run full and in segments."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import specs
import torch
from documents import Needle, cuts
from inputs import Inputs
from lockstep import full
from lockstep.contract.spec import Spec
from lockstep.operator import lm_head
from lockstep.operator.model import Model

Needles = dict[tuple[int, str], list[Needle]]
#: Arm -> the ways that it is run, the ones that the verdict reads first.
WAYS = {
    "untrained": ("A4", "A0", "full", "window", "other"),
    "full": ("A4", "A0", "full"),
    "A4": ("A4", "A0", "other", "full"),
    "A0": ("A0", "A4", "full"),
    "A4K0": ("A4", "A0", "full"),
}


@dataclass(frozen=True)
class Bench:
    """What evaluation sees: the same for every arm."""

    inputs: Inputs
    sizes: specs.Sizes
    needles: Needles
    late: Callable[[], bool]


def served(module: Any) -> Any:
    """A copy to evaluate: in bfloat16 on a GPU, as it would be served."""
    one = copy.deepcopy(module).eval().requires_grad_(False)
    return one.to(torch.bfloat16) if next(one.parameters()).is_cuda else one


def specs_of(way: str, sizes: specs.Sizes, config: Any, length: int) -> Spec:
    layers = config.num_hidden_layers
    if way == "window":
        return specs.window(
            specs.spec(layers, sizes, 4), layers, config.num_key_value_heads, length
        )
    other = sizes.other if way == "other" else None
    return specs.spec(layers, sizes, 0 if way == "A0" else 4, other)


def evaluated(module: Any, arm: str, bench: Bench) -> Iterator[dict[str, Any]]:
    """One row for each way, perplexity first: {way, perplexity, needles?, seconds}.

    needles: {length: {kind: recalled of each sample, 0 or 1}}. Where time ran out, the row says so:
    ``skipped``, or ``partial``.
    """
    module = served(module)
    for task in ("perplexity", "needles"):
        for way in WAYS[arm]:
            if bench.late():
                yield {"way": way, "skipped": task, "reason": "time"}
                continue
            began = time.monotonic()
            try:
                with torch.no_grad():
                    found = perplexity if task == "perplexity" else recall
                    row: dict[str, Any] = {"way": way, task: found(module, way, bench)}
            except Exception as error:  # one way never stops the next
                row = {"way": way, "error": f"{task}: {type(error).__name__}: {error}"[:400]}
            if "needles" in row and sum(map(len, row["needles"].values())) < len(bench.needles):
                row["partial"] = "time"
            yield row | {"seconds": time.monotonic() - began}


def perplexity(module: Any, way: str, bench: Bench) -> dict[str, float]:
    """Of the first n held-out tokens, for every length n."""
    ids = [int(token) for token in bench.inputs.held[: max(bench.sizes.lengths)]]
    if way == "window":
        # Its width hangs on the length, so every length is a pass of its own.
        out = {}
        for n in bench.sizes.lengths:
            model = Model.from_module(module, specs_of(way, bench.sizes, module.config, n))
            nll_T = model.nll(ids[:n], cuts(n, model.spec.max))
            out[str(n)] = math.exp(float(nll_T.mean()))
        return out
    model = Model.from_module(module, specs_of(way, bench.sizes, module.config, len(ids)))
    if way == "full":
        nll_T = full.nll(model, ids)
    else:
        nll_T = model.nll(ids, cuts(len(ids), model.spec.max))
    return {str(n): math.exp(float(nll_T[: n - 1].mean())) for n in bench.sizes.lengths}


def recall(module: Any, way: str, bench: Bench) -> dict[str, dict[str, list[int]]]:
    """Whether each needle's digits are the most probable tokens, the ones before given."""
    out: dict[str, dict[str, list[int]]] = {str(n): {} for n in bench.sizes.lengths}
    for (length, kind), samples in bench.needles.items():
        if bench.late():
            break
        model = Model.from_module(module, specs_of(way, bench.sizes, module.config, length))
        size = 1 if way == "full" else max(1, bench.sizes.pack // length)
        hits: list[int] = []
        for at in range(0, len(samples), size):
            part = samples[at : at + size]
            if way == "full":
                hidden = [full.hidden(model, one.ids) for one in part]
            else:
                docs = [
                    (one.ids, cuts(len(one.ids), model.spec.max, [one.question_end]))
                    for one in part
                ]
                hidden = model.hidden_many(docs)
            hits += [int(found(model, h, one)) for h, one in zip(hidden, part, strict=True)]
        out[str(length)][kind] = hits
    return out


def found(model: Model, hidden_TE: torch.Tensor, one: Needle) -> bool:
    rows_tE = hidden_TE[one.digits.start - 1 : one.digits.stop - 1]
    best = lm_head.logits(model.head, rows_tE).argmax(-1).tolist()
    return best == one.ids[one.digits.start : one.digits.stop]
