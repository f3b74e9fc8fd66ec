"""Child of experiments.py: mean losses of one model on texts, executed segmented and full.

usage: python bench/training/measure.py '{"weights": DIR, "contract": DIR, "texts": …, …}'

`contract` names an attached checkpoint, whose contract is used; `weights` the model, which may be
one that full-attention training wrote. Every execution is causal and plans without lookahead, so
that one pass over the longest length gives the perplexity of every length.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "python"))
BIN = 256  # positions averaged in one point of a curve


def measured(nll: list[float], lengths: list[int]) -> dict:
    """Perplexity of the first n tokens for every n, and the mean loss of every BIN positions."""
    fit = [n for n in lengths if n <= len(nll) + 1]
    bins = [nll[at : at + BIN] for at in range(0, len(nll), BIN)]
    return {
        "perplexity": {str(n): math.exp(sum(nll[: n - 1]) / (n - 1)) for n in fit},
        "bins": [sum(part) / len(part) for part in bins],
    }


def run(job: dict) -> dict:
    import torch
    from lockstep import contract, full
    from lockstep.contract.spec import Spec
    from lockstep.loader import load_module
    from lockstep.operator.model import Model
    from lockstep.tokenizer.first_tokens import first_tokens

    torch.set_num_threads(job["threads"])
    own = contract.read(job["contract"])
    module = load_module(job["weights"], device=job["device"])
    model = Model(module, Spec.from_contract(own), own)
    out: dict = {"digest": own.digest, "bin": BIN, "texts": {}}
    for name, text in job["texts"].items():
        rows = out["texts"][name] = {}
        for execution, lengths in text["lengths"].items():
            ids = first_tokens(job["contract"], text["file"], max(lengths), skip=text["skip"])
            began = time.time()
            nll = model.nll(ids) if execution == "segmented" else full.nll(model, ids)
            seconds = time.time() - began
            rows[execution] = {**measured(nll.tolist(), lengths), "seconds": seconds}
    return out


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
