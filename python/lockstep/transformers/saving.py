"""``model.save_pretrained(DIR)``: a checkpoint with the same contract and the weights of now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.training import checkpoint, generation, lora, manifest, sidecar_files
from lockstep.verification import probe
from lockstep.weights import reader as weights

from .segments import Segments


def save(model: Any, stock: Callable[..., Any], directory: Any, *args: Any, **options: Any) -> None:
    """``stock`` is transformers' save_pretrained of ``model``; ``directory`` gets a contract, too.

    ``trained`` of the contract counts what was trained: steps and tokens of the checkpoint that was
    loaded, and since then.
    """
    with generation.writable(model):
        stock(directory, *args, **options)
    if options.get("is_main_process", True):
        seal(Path(directory), model.segments)


def save_merged(model: Any, directory: Any) -> None:
    """Write a peft model's checkpoint with its adapters added to the weights: what serves.

    The model itself stays as it is. Raises ``LS_TRANSFORMERS_ADAPTER`` for what cannot be added.
    """
    base = model.get_base_model()
    active = list(getattr(model, "active_adapters", ["default"]))
    kind = getattr(model.peft_config.get(lora.NAME), "peft_type", None)
    if active != [lora.NAME] or getattr(kind, "value", kind) != "LORA":
        raise LockstepError(
            "LS_TRANSFORMERS_ADAPTER",
            f"expected one LoRA adapter named {lora.NAME}, got {', '.join(active)}",
            "Merge it yourself: model.merge_and_unload().save_pretrained(DIR).",
        )
    base.save_pretrained(directory, state_dict=lora.merged(base))


def seal(directory: Path, segments: Segments) -> None:
    """Put the contract, and all that belongs to its digest, beside weights that lie there.

    Trainers write the tokenizer again in their own way: the checkpoint's own bytes replace it. A
    probe of other weights, left by what the folder held before, goes: engines would refuse it.
    """
    sidecar_files.write(directory, segments.files)
    sums = {p.name: manifest.sha256(p) for p in sorted(directory.glob("*.safetensors"))}
    identity = weights.identity_of(sums)
    trained = {"steps": segments.steps, "tokens": segments.tokens, "weights": identity}
    checkpoint.seal(directory, {**segments.contract.document, "trained": trained})
    try:
        probe.load(directory, segments.contract, identity["sha256"])
    except LockstepError:
        (directory / probe.PROBE_FILE).unlink()
