"""The ``model_type`` of a segmented checkpoint (counterpart of src/contract/model-type.ts).

config.json names one of our own, ``lockstep_llama`` for a Llama, so that a program that knows
nothing of segments refuses the checkpoint instead of running it with full attention.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import LockstepError

PREFIX = "lockstep_"
#: What the operator runs, as a plain config.json names it.
FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}
PLAIN = tuple(FAMILIES)


def plain_type(model_type: Any) -> Any:
    """`lockstep_llama` -> `llama`; anything else as it is."""
    if isinstance(model_type, str) and model_type.removeprefix(PREFIX) in PLAIN:
        return model_type.removeprefix(PREFIX)
    return model_type


def segmented_type(model_type: Any) -> str:
    """`llama` -> `lockstep_llama`; a name of ours stays."""
    return f"{PREFIX}{plain_type(model_type)}"


def plain_config(folder: Path) -> Any:
    """transformers' own configuration of a checkpoint, segmented or not.

    Raises ``LS_MODEL_LOAD`` for a config.json that transformers cannot read.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text("utf-8"))
        kind = settings["model_type"] = plain_type(settings.get("model_type"))
        if kind not in CONFIG_MAPPING:
            raise ValueError(f"the unknown model_type {kind!r}")
        return CONFIG_MAPPING[kind].from_dict(settings)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        StrictDataclassError,
    ) as error:
        raise LockstepError(
            "LS_MODEL_LOAD",
            f"expected the configuration of a model in {file}, got: {error}",
            "Copy config.json again from the original checkpoint.",
            "config.json",
        ) from error
