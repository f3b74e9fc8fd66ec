"""Job: the training forward over a text, written to files that engines are compared with.

Also `gap`, which judges a retrieval mismatch (SEMANTICS.md 4) on the trainer's queries and keys.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ..bridge import job
from ..contract.spec import Spec
from ..errors import LockstepError
from ..tokenizer.first_tokens import encode

ROWS = 64  # rows of float64 log-probabilities alive at once


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Run the trainer's parallel form in float32, and write what is compared.

    ``description``: ``{dir, text, ids, best, out, threads?}``; ``ids`` are Node's tokens of
    ``text`` (with BOS where the contract adds one). Written under ``out``: ``observed.f64`` [T-1]
    log p of the next token, ``best-ids.i32`` and ``best-logp.f64`` [T, best],
    ``trace.safetensors``.
    Returns ``{digest, boundaries, retrieved: [{at, layers: [{layer, positions}]}]}``.

    Raises what `contract.read` raises; ``LS_VERIFY_TOKENS`` when Python tokenizes otherwise.
    """
    import torch

    from .. import retrieval
    from ..loader import load

    if description.get("threads"):
        torch.set_num_threads(description["threads"])
    job.emit("progress", stage="reading the checkpoint", done=0, total=1)
    model = load(description["dir"])
    ids = description["ids"]
    _same_tokens(description["dir"], description["text"], ids, model.contract)
    cuts = model.plan(ids)
    job.emit("progress", stage="training forward", done=0, total=len(ids))
    trace = model.trace(ids, cuts)
    out = Path(description["out"])
    _write_rows(model, trace.hidden, ids, description["best"], out)
    _write_trace(trace, out / "trace.safetensors")
    return {
        "digest": model.contract.digest,
        "boundaries": cuts,
        "retrieved": [
            {
                "at": boundary.at,
                "layers": [
                    {"layer": layer, "positions": retrieval.listed(positions)}
                    for layer, positions in sorted(boundary.positions.items())
                ],
            }
            for boundary in trace.boundaries
        ],
    }


def gap(file: str, at: int, layer: int, head: int, other: list[int]) -> dict[str, float]:
    """How far the trainer's scores are from choosing ``other`` at boundary ``at``: ``deciding_gap``
    with its unit.

    ``file`` is the trace that `run` wrote; ``head`` counts the layer's long heads. ``scale`` is the
    largest |q| |k| (Euclidean norms) of the vectors that were compared: the unit in which rounding
    errors of scores are measured (for `blocks` those of logits, which move masses relatively).
    A choice that no near-tie explains has the largest float as its gap.
    """
    import torch
    from safetensors import safe_open

    from .. import retrieval

    with safe_open(file, framework="pt") as tensors:
        spec = Spec.from_json(tensors.metadata()["spec"])
        queries = tensors.get_tensor(f"queries.{at}.{layer}")[head : head + 1]
        keys_1ND = tensors.get_tensor(f"keys.{layer}")[head : head + 1, : spec.eligible_at(at)]
    found = retrieval.deciding_gap(
        queries, keys_1ND, spec.retrieval_size, spec.recipe, torch.tensor([other]), spec.block
    )
    return {
        "gap": min(found, sys.float_info.max),
        "scale": float(queries.norm(dim=-1).max() * keys_1ND.norm(dim=-1).max()),
    }


def _same_tokens(folder: str, text: str, ids: list[int], contract: Any) -> None:
    bos = contract.document["tokenizer"]["bos"]
    own = ([] if bos is None else [bos]) + encode(folder, text)
    for position, (theirs, ours) in enumerate(zip(ids, own, strict=False)):
        if theirs != ours:
            raise LockstepError(
                "LS_VERIFY_TOKENS",
                f"expected Node and Python to tokenize alike, got {theirs} and {ours} "
                f"at {position}",
                "Report the text with this message: the two tokenizer libraries differ.",
            )
    if len(own) < len(ids):
        raise LockstepError(
            "LS_VERIFY_TOKENS",
            f"expected at least {len(ids)} tokens in Python, got {len(own)}",
            "Report the text with this message: the two tokenizer libraries differ.",
        )


def _write_rows(model: Any, hidden_TE: Any, ids: list[int], best: int, out: Path) -> None:
    import torch

    from ..operator import lm_head

    ids_T = torch.tensor(ids)
    with (
        (out / "observed.f64").open("wb") as observed,
        (out / "best-ids.i32").open("wb") as best_ids,
        (out / "best-logp.f64").open("wb") as best_logp,
    ):
        for start in range(0, len(ids), ROWS):
            job.check_cancelled()
            with torch.no_grad():
                logits_RV = lm_head.logits(model.head, hidden_TE[start : start + ROWS])
            logp_RV = logits_RV.double().log_softmax(-1)
            top = logp_RV.topk(min(best, logp_RV.shape[1]), dim=-1)
            best_ids.write(top.indices.int().numpy().tobytes())
            best_logp.write(top.values.numpy().tobytes())
            next_R = ids_T[start + 1 : start + 1 + ROWS]
            observed.write(logp_RV[: len(next_R)].gather(1, next_R[:, None]).numpy().tobytes())
            job.emit(
                "progress",
                stage="training forward",
                done=min(len(ids), start + ROWS),
                total=len(ids),
            )


def _write_trace(trace: Any, file: Path) -> None:
    from safetensors.torch import save_file

    tensors = {f"keys.{layer}": keys.contiguous() for layer, keys in trace.pool_keys.items()}
    for boundary in trace.boundaries:
        for layer, queries in boundary.queries.items():
            tensors[f"queries.{boundary.at}.{layer}"] = queries.contiguous()
    save_file(tensors, file, {"spec": trace.spec.to_json()})


if __name__ == "__main__":
    job.main(run)
