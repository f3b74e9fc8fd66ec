"""A checkpoint: an ordinary Hugging Face directory with a contract in it, written atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lockstep.contract.model_type import segmented_type
from lockstep.training import (
    card,
    checkpoint_rotation,
    generation,
    lora,
    manifest,
    progress,
    sidecar_files,
)
from lockstep.training.atomic import replace_directory
from lockstep.training.progress import Progress
from lockstep.training.settings import Job
from lockstep.training.texts import Texts
from lockstep.training.train_state import Snapshot
from lockstep.weights import reader as weights


def save(
    job: Job,
    model: Snapshot,
    contract: dict[str, Any] | None,
    state: Progress,
    texts: Texts,
    identity: dict[str, Any],
    files: dict[str, bytes],
    first: bool,
) -> None:
    """Replace ``job.out`` by a checkpoint of ``model``.

    contract: content of `lockstep.json` (None: full-attention control). files: what is taken over
    from the base model (`sidecar_files.read`). first: ``job.out`` holds no checkpoint of
    this training yet, so its content is not kept. Raises LS_TRAIN_DISK and LS_TRAIN_WRITE when
    it cannot be written; ``job.out`` then stays what it was.
    """

    def fill(directory: Path) -> None:
        with generation.writable(model.module):
            model.module.save_pretrained(directory, state_dict=model.weights)
        without = () if contract is not None else (sidecar_files.POLICY,)
        sidecar_files.write(directory, files, without)
        # Read once: for the contract and for the list of checksums.
        sums = {p.name: manifest.sha256(p) for p in sorted(directory.glob("*.safetensors"))}
        if contract is not None:
            trained = {**state.trained(), "weights": weights.identity_of(sums)}
            seal(directory, {**contract, "trained": trained})
            if job.training.lora is not None and model.trained is not None:
                digest, base = contract["digest"], identity["weights"]
                lora.export(
                    directory, model.trained, job.training.lora, digest, base, state.trained()
                )
        _readable(directory)
        text = card.card(job, contract, state, texts)
        (directory / "README.md").write_text(text, encoding="utf-8")
        settings = job.training.as_dict()
        progress.write(directory, state, settings, model.moments, model.trained, identity)
        manifest.write(directory, sums)

    def retire(old: Path) -> None:
        if first:
            checkpoint_rotation.delete(old, job.out)
        else:
            checkpoint_rotation.archive(old, job.out, job.training.keep or 1)

    replace_directory(job.out, fill, retire)


def _readable(directory: Path) -> None:
    """Weights come from a temporary file and so for the owner alone: give them the usual mode."""
    mask = os.umask(0)
    os.umask(mask)
    for path in directory.rglob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def seal(directory: Path, contract: dict[str, Any]) -> None:
    """Add the contract, and make runtimes that do not know it refuse the model."""
    (directory / "lockstep.json").write_text(formatted(contract) + "\n", encoding="utf-8")
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [segmented_name(a) for a in config["architectures"]]
    config["model_type"] = segmented_type(config["model_type"])
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def segmented_name(architecture: str) -> str:
    """`LlamaForCausalLM` -> `SegmentedLlamaForCausalLM`; a segmented name stays."""
    return architecture if architecture.startswith("Segmented") else f"Segmented{architecture}"


def formatted(value: Any, indent: str = "") -> str:
    """JSON as src/contract/format.ts writes it: objects spread out, lists of numbers on a line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        lines = [f"{inner}{json.dumps(k)}: {formatted(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and _holds_object(value):
        return "[\n" + ",\n".join(inner + formatted(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _holds_object(value: Any) -> bool:
    return any(isinstance(v, dict) or (isinstance(v, list) and _holds_object(v)) for v in value)
