"""``lockstep.save_adapter(model, DIR)``: a LoRA adapter that peft trained, sealed to its base.

Every forward pass of our models runs in the contract's segments, whichever trainer calls it. So an
adapter may be sealed where the model itself ran backward passes, its base weights are still the
checkpoint's, and the adapter is nothing more than A and B of projections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from lockstep.errors import LockstepError
from lockstep.training import lora
from lockstep.weights import adapter
from lockstep.weights import reader as weights
from lockstep.weights.table import expected_tensors

from .segments import Segments

#: Options of a LoraConfig that say where A and B are, how they began, or whose they were.
_FREE = {
    "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform",
    "layers_pattern", "init_lora_weights",
}  # fmt: skip
#: Files that PEFT reads through pickle.
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_MERGED = "serve the merged checkpoint: trainer.save_merged(DIR), or merge_and_unload()"


def save_adapter(model: Any, directory: Any) -> None:
    """Write a peft model's adapter into ``directory``: ``lockstep serve --adapter NAME=DIR``.

    ``model``: a peft model over a checkpoint that AutoModelForCausalLM or `lockstep.trl` loaded,
    trained in this program. An adapter that lies in ``directory`` is replaced. Raises
    ``LS_ADAPTER_MODEL``, ``LS_ADAPTER_KIND``, ``LS_ADAPTER_TENSORS``, ``LS_ADAPTER_RANK``,
    ``LS_ADAPTER_BASE``, ``LS_ADAPTER_UNTRAINED``, ``LS_ADAPTER_FOLDER`` for what cannot be sealed,
    before anything is written.
    """
    folder = Path(directory)
    base, segments = _checked_model(model)
    rank, alpha = _checked_kind(model.peft_config[lora.NAME])
    _check_modules(base, segments)
    counts = _checked_counts(segments)
    _check_base(base, segments)
    _check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The old seal goes first and the new one comes last: a half-written folder is refused.
    for name in (adapter.SEAL, "probe.json"):
        (folder / name).unlink(missing_ok=True)
    document = segments.contract.document
    whose = document["trained"]["weights"]["sha256"]
    tensors = {name: value.detach().cpu() for name, value in lora.adapters(base).items()}
    lora.write(folder, tensors, rank, alpha, segments.contract.digest, whose, counts)
    adapter.check(adapter.read(folder), document)


def _checked_model(model: Any) -> tuple[Any, Segments]:
    """The base model below peft's, and what it needs beside its weights."""
    # peft leaves its configuration at the base, too.
    wrapped = hasattr(model, "get_base_model")
    configs = model.peft_config if wrapped else {}
    base = model.get_base_model() if wrapped else model
    segments = getattr(base, "segments", None)
    if not configs or not isinstance(segments, Segments):
        got = "no adapter" if not configs else f"{type(base).__name__}, which has no contract"
        raise LockstepError(
            "LS_ADAPTER_MODEL",
            f"expected a peft model over a segmented checkpoint, got {got}",
            "load the checkpoint with AutoModelForCausalLM.from_pretrained(DIR) after import "
            "lockstep.transformers, and give it to peft.get_peft_model or to a trainer",
            "model",
        )
    active = sorted(configs)
    kind = getattr(configs.get(lora.NAME), "peft_type", None)
    if active != [lora.NAME] or getattr(kind, "value", kind) != "LORA":
        raise LockstepError(
            "LS_ADAPTER_KIND",
            f"expected one LoRA adapter named {lora.NAME}, got {', '.join(active)} "
            f"({getattr(kind, 'value', kind)})",
            "train one LoRA adapter a model; " + _MERGED,
            "peft_config",
        )
    return base, segments


def _checked_kind(config: Any) -> tuple[int, float]:
    """Rank and alpha of plain LoRA: (alpha / rank) BA is added to a projection, and no more."""
    plain = type(config)().to_dict()
    for name, value in config.to_dict().items():
        if name not in _FREE and (value or None) != (plain.get(name) or None):
            raise LockstepError(
                "LS_ADAPTER_KIND",
                f"expected plain LoRA, got {name}={value!r} in its LoraConfig",
                f"train without {name}; " + _MERGED,
                name,
            )
    return int(config.r), float(config.lora_alpha)


def _check_modules(base: Any, segments: Segments) -> None:
    sides = expected_tensors(segments.contract.document["model"])
    served = {n.removesuffix(".weight") for n, side in sides.items() if "_proj" in n and side}
    kinds = sorted({name.rpartition(".")[2] for name in served})
    found = {name.partition(".lora_")[0] for name in base.state_dict() if ".lora_" in name}
    odd = sorted(found - served)
    if odd or not found:
        raise LockstepError(
            "LS_ADAPTER_TENSORS",
            f"expected an adapter of {', '.join(kinds)} alone, got {odd[0] if odd else 'none'}",
            "name other target_modules; " + _MERGED,
            "target_modules",
        )


def _checked_counts(segments: Segments) -> dict[str, int]:
    """Steps and tokens since the checkpoint was loaded."""
    before = segments.contract.document["trained"]
    steps = segments.steps - int(before["steps"])
    tokens = segments.tokens - int(before["tokens"])
    if steps < 1 or tokens < 1:
        raise LockstepError(
            "LS_ADAPTER_UNTRAINED",
            f"expected an adapter that this model was trained with, got {steps} steps over "
            f"{tokens} tokens since the checkpoint was loaded",
            "save the adapter in the program that trained it; one that was trained under full "
            "attention must be trained further in segments",
            "model",
        )
    return {"steps": steps, "tokens": tokens}


@torch.no_grad()
def _check_base(base: Any, segments: Segments) -> None:
    """An adapter belongs to the weights of the checkpoint, so they must not have moved."""
    trained = segments.contract.document["trained"]
    stored = weights.check(segments.folder, trained)
    assert stored is not None
    for name, live in base.state_dict().items():
        stock = name.replace(lora.BASE, "")
        if ".lora_" in name or stock not in stored.tensors:
            continue
        with safe_open(segments.folder / stored.tensors[stock].file, framework="pt") as file:
            own = file.get_tensor(stock)
        if own.shape != live.shape or not torch.equal(own.to(live.dtype), live.cpu()):
            raise LockstepError(
                "LS_ADAPTER_BASE",
                f"expected the base's weights to be those in {segments.folder}, got another "
                f"{stock}",
                "train the adapter alone; " + _MERGED,
                stock,
            )


def _check_folder(folder: Path) -> None:
    pickled = [p.name for end in _PICKLED for p in folder.glob(f"adapter_model*{end}")]
    if pickled:
        raise LockstepError(
            "LS_ADAPTER_FOLDER",
            f"expected no pickle beside an adapter, got {pickled[0]} in {folder}",
            "delete it, or name another folder",
            pickled[0],
        )
    if (folder / "lockstep.json").exists():
        raise LockstepError(
            "LS_ADAPTER_FOLDER",
            f"expected a folder for the adapter alone, got the checkpoint {folder}",
            f"name another folder, such as {folder / lora.FOLDER}",
            "directory",
        )
