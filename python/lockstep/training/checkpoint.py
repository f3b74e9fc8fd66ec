"""A checkpoint: an ordinary Hugging Face directory with a contract in it, written atomically."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lockstep.errors import LockstepError
from lockstep.training import card, progress
from lockstep.training.atomic import replace_directory
from lockstep.training.progress import Progress
from lockstep.training.settings import Job

# Of the base model: what belongs to its tokenizer and to how it is prompted and licensed.
CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
)


def save(
    job: Job,
    module: nn.Module,
    contract: dict[str, Any] | None,
    parameters: dict[str, nn.Parameter],
    optimizer: torch.optim.AdamW,
    state: Progress,
    documents: int,
    identity: dict[str, Any],
) -> None:
    """Replace ``job.out`` by a checkpoint of ``module``.

    contract: content of `lockstep.json` (None: full-attention control). Raises LS_TRAIN_DISK when
    the disk is full and LS_TRAIN_NAN when a trained weight is not finite; ``job.out`` then stays
    what it was.
    """
    for name, parameter in parameters.items():
        if not bool(torch.isfinite(parameter.detach()).all()):
            raise LockstepError(
                "LS_TRAIN_NAN",
                f"expected finite weights after step {state.step}, got NaN or infinity in {name}",
                "Lower training.learningRate; the last good checkpoint is unchanged.",
            )

    def fill(directory: Path) -> None:
        module.save_pretrained(directory)  # type: ignore[operator]
        _readable(directory)
        for name in CARRIED:
            if (job.model / name).is_file():
                shutil.copyfile(job.model / name, directory / name)
        if contract is not None:
            _seal(directory, {**contract, "trained": state.trained()}, job.model / "policy.js")
        text = card.card(job, contract, state, documents)
        (directory / "README.md").write_text(text, encoding="utf-8")
        progress.write(directory, state, job.training.as_dict(), optimizer, parameters, identity)

    replace_directory(job.out, fill)


def _readable(directory: Path) -> None:
    """Weights come from a temporary file and so for the owner alone: give them the usual mode."""
    mask = os.umask(0)
    os.umask(mask)
    for path in directory.glob("*.safetensors"):
        path.chmod(0o666 & ~mask)


def _seal(directory: Path, contract: dict[str, Any], policy: Path) -> None:
    """Add the contract, and make runtimes that do not know it refuse the model."""
    shutil.copyfile(policy, directory / "policy.js")
    (directory / "lockstep.json").write_text(formatted(contract) + "\n", encoding="utf-8")
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = [segmented_name(a) for a in config["architectures"]]
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


def refuse_to_replace(out: Path, overwrite: bool) -> None:
    """Raise LS_TRAIN_OUT where ``out`` holds something that a new training must not replace."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = (out / progress.STATE).is_file() or (out / "lockstep.json").is_file()
    if not ours:
        raise LockstepError(
            "LS_TRAIN_OUT",
            f"expected {out} to be absent, empty or a checkpoint of Lockstep, got other files",
            "Choose another `out`.",
            "out",
        )
    if not overwrite:
        raise LockstepError(
            "LS_TRAIN_OUT",
            f"expected no checkpoint at {out}, got one",
            "Go on with --resume, replace it with --overwrite, or choose another `out`.",
            "out",
        )
