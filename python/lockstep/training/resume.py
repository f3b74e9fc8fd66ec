"""Going on with an interrupted training: what must be the same, and what differs if not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.training import progress
from lockstep.training.progress import NEVER, Progress
from lockstep.training.settings import Job, differences
from lockstep.weights import reader as weights


def own_contract(job: Job, document: Mapping[str, Any]) -> dict[str, Any]:
    """The contract as this job writes it: its own K, what the base model saw under it before."""
    path, earlier = job.base / "lockstep.json", NEVER
    if path.is_file():
        base = json.loads(path.read_text(encoding="utf-8"))
        earlier = base["trained"] if base["digest"] == document["digest"] else NEVER
    return {**document, "training": {"truncation": job.training.truncation}, "trained": earlier}


def identity(job: Job, contract: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of the training that wrote it, beside its settings.

    base: where the model that it began from lies, relative to ``job.out``: `lockstep eval` puts
    that model beside the trained one.
    """
    digest = contract["digest"] if job.attention == "segmented" else None
    base = os.path.relpath(job.base.resolve(), job.out.resolve())
    out = {"mode": job.attention, "digest": digest, "base": base}
    # Adapters are kept without the weights that they belong to.
    return out if job.training.lora is None else {**out, "weights": _sha256(job.model)}


def _sha256(model: Path) -> str:
    return str(weights.identify(weights.read(model))["sha256"])


def resumable(job: Job, contract: Mapping[str, Any]) -> Progress:
    """How far the training at ``job.out`` has come.

    Raises LS_TRAIN_CONTRACT where it was under another contract and LS_TRAIN_RESUME where there is
    none, or one with other settings; both name what differs.
    """
    state = progress.read_state(job.out)
    if job.attention == "segmented" == state["mode"]:
        old = json.loads((job.out / "lockstep.json").read_text(encoding="utf-8"))
        if not old["digest"] == state["digest"] == contract["digest"]:
            fields = contract_differences(old, contract)
            raise LockstepError(
                "LS_TRAIN_CONTRACT",
                f"expected the contract of {job.out} (digest {old['digest']}), got another "
                f"({contract['digest']}): {'; '.join(fields) or 'digest'} differs",
                "A model is trained under one contract: undo the change, or start a new training "
                "with another `out`.",
            )
    changed = differences(state["settings"], json.loads(json.dumps(job.training.as_dict())))
    if state["mode"] != job.attention:
        changed.append(f"attention: {state['mode']!r} -> {job.attention!r}")
    if job.training.lora is not None and state.get("weights") != _sha256(job.model):
        changed.append("model: other weights than those that the adapters belong to")
    if changed:
        raise LockstepError(
            "LS_TRAIN_RESUME",
            f"expected the settings of the interrupted training, got {'; '.join(changed)}",
            "Only the budget, saving and scoring may change on --resume.",
        )
    return progress.read_progress(job.out)


def contract_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the contract's fields that differ, with their values where those are short."""
    out = []
    for name in sorted((old.keys() | new.keys()) - {"digest", "training", "trained", "lockstep"}):
        a, b = old.get(name), new.get(name)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            parts = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
            out += [_change(f"{name}.{k}", a.get(k), b.get(k)) for k in parts]
        else:
            out.append(_change(name, a, b))
    return out


def _change(name: str, a: Any, b: Any) -> str:
    text = f"{name} {json.dumps(a)} -> {json.dumps(b)}"
    return text if len(text) <= 120 else name
