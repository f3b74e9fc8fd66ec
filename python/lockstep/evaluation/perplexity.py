"""Job: perplexity of a checkpoint on the first tokens of a text, in one or more ways of running it.

Kinds of attention are those of `evaluation.losses`; `lockstep eval` has intervals and more.
"""

from __future__ import annotations

import math
from typing import Any

from ..bridge import job
from ..errors import LockstepError
from ..tokenizer.first_tokens import first_tokens
from .losses import ATTENTION, losses


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{dir, text, skip, lengths, attention, threads?}`` ->
    ``{perplexity: {length: {attention: value}}, boundaries: count by length}``."""
    wanted, lengths = description["attention"], description["lengths"]
    for attention in wanted:
        if attention not in ATTENTION:
            raise LockstepError(
                "LS_PERPLEXITY_MODE",
                f"expected attention of {', '.join(ATTENTION)}, got {attention!r}",
                "Correct --attention.",
            )
    if not lengths or min(lengths) < 2:
        raise LockstepError(
            "LS_PERPLEXITY_TOKENS",
            f"expected lengths of at least 2 tokens, got {lengths}",
            "Give larger lengths with --tokens.",
        )
    import torch

    from ..loader import load

    if description.get("threads"):
        torch.set_num_threads(description["threads"])
    job.emit("progress", stage="loading", done=0, total=len(wanted))
    model = load(description["dir"])
    ids = first_tokens(
        description["dir"],
        description["text"],
        max(lengths),
        skip=description.get("skip", 0),
        bos=model.contract.document["tokenizer"]["bos"],
    )
    cuts = model.plan(ids)
    table: dict[str, dict[str, float]] = {str(length): {} for length in lengths}
    for done, attention in enumerate(wanted):
        job.check_cancelled()
        job.emit("progress", stage=attention, done=done, total=len(wanted))
        nll = losses(model, ids, cuts, attention)
        for length in lengths:
            table[str(length)][attention] = math.exp(float(nll[: length - 1].mean()))
    counts = {str(length): sum(cut <= length for cut in cuts) for length in lengths}
    return {"perplexity": table, "boundaries": counts}


if __name__ == "__main__":
    job.main(run)
