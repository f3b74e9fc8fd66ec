"""Open a checkpoint under its contract: verify first, then load the weights (safetensors only)."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from .collector import paused

with paused():
    import torch

from .contract.checkpoint_names import check_names
from .contract.model_type import plain_config
from .contract.spec import Spec
from .errors import LockstepError
from .operator.model import Model
from .weights import reader as weights

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def load(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    weights_check: bool | None = None,
) -> Model:
    """A checkpoint directory with `lockstep.json` and `policy.js`, checked and ready to run.

    ``weights_check``: False does not hash the weights to see whether they are those that
    `lockstep.json` records (default: hash them, unless ``LOCKSTEP_NO_WEIGHTS_CHECK`` asks not to).

    Raises ``LS_CONTRACT_*`` when contract, policy or tokenizer do not match, ``LS_MODEL_*`` when
    the weights cannot be loaded, ``LS_WEIGHTS_IDENTITY`` when they are others, ``LS_DEVICE`` when
    nothing can be computed on ``device``, ``LS_ROPE_*`` for a position scaling that segments
    cannot have.
    """
    from .contract.reader import read

    check = weights.checked() if weights_check is None else weights_check
    if not check:
        warnings.warn(
            "weights are not checked against the checksums in lockstep.json", stacklevel=2
        )
    contract = read(path, weights_check=check)
    module = load_module(path, dtype=dtype, device=device, weights_check=check)
    return Model(module, Spec.from_contract(contract), contract)


def check_device(device: str) -> None:
    """Raises ``LS_DEVICE`` where this PyTorch cannot compute there."""
    try:
        torch.empty(1, device=device).add_(1).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise LockstepError(
            "LS_DEVICE",
            f"expected a device that PyTorch {torch.__version__} can use, got {device!r}: {why}",
            "Use --device cpu, or install a PyTorch that is built for this device.",
            field="device",
        ) from error


def load_module(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    weights_check: bool | None = None,
) -> Any:
    """The transformers module alone, in evaluation mode, from local safetensors files."""
    if dtype not in DTYPES:
        raise LockstepError(
            "LS_MODEL_DTYPE",
            f"expected dtype {', '.join(DTYPES)}, got {dtype!r}",
            "Pass one of these names as dtype.",
            field="dtype",
        )
    check_device(device)
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise LockstepError(
            "LS_MODEL_MISSING",
            f"expected a model directory with config.json, got {folder}",
            "Give the path of a Hugging Face checkpoint directory.",
        )
    check_names(folder)
    # What transformers would pass over, or read otherwise than other runtimes do.
    weights.read(folder, bytes_too=weights_check)
    module, info = _from_pretrained(folder, DTYPES[dtype])
    # transformers would go on with random values in place of some, and without the others.
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        found = sorted(str(key) for key in info[kind])
        if found:
            raise LockstepError(
                "LS_MODEL_WEIGHTS_TENSORS",
                f"expected the weights of {type(module).__name__}, got {kind} {found[0]}",
                "Weights and config.json belong to different models: copy both again.",
                found[0],
            )
    _forget_ids(module, folder)
    return module.to(device).eval()


def _from_pretrained(folder: Path, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The module as transformers loads it, and what it says of names that do not fit."""
    config = plain_config(folder)
    with paused():
        from transformers import AutoModelForCausalLM
        from transformers.models.llama import modeling_llama  # noqa: F401  # what all families import
    from transformers.utils import logging

    logging.disable_progress_bar()
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LockstepError(
            "LS_MODEL_LOAD",
            f"expected weights in safetensors files in {folder}, got: {error}",
            "Convert the checkpoint with save_pretrained(..., safe_serialization=True).",
        ) from error
    return loaded


def _forget_ids(module: Any, folder: Path) -> None:
    """Take back the special ids that transformers gives a family whose config.json names none.

    They are another tokenizer's, and a trained checkpoint would carry them as its own.
    """
    from .contract.shape_fields import read_fields

    given = read_fields(folder).config
    for name in ("bos_token_id", "eos_token_id"):
        if name in given:
            continue
        setattr(module.config, name, None)
        if not (folder / "generation_config.json").is_file():
            setattr(module.generation_config, name, None)
