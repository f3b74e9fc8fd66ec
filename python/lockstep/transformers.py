"""transformers knows segmented checkpoints: it reads their configuration and refuses to run them.

Without this module transformers stops at the ``model_type`` that it does not know. Importing it
registers a configuration for each family, which vLLM and AutoTokenizer need, and classes that say
what to do instead of running the weights with full attention.
"""

from __future__ import annotations

from typing import Any, NoReturn

from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto import tokenization_auto

from .errors import LockstepError
from .model_type import PLAIN, segmented_type


def _refuse(model: Any) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_SEGMENTED",
        f"expected a checkpoint for full attention, got {model}, which runs in segments under its "
        "contract: lockstep.load runs it, lockstep detach makes a plain copy",
        "call lockstep.load(DIR); or, for full attention on purpose: "
        "lockstep detach DIR --out PLAIN",
        "model_type",
    )


class Segmented:
    """What the Auto classes find for a segmented configuration: a refusal."""

    def __init__(self, config: Any, *_: Any, **__: Any):
        raise _refuse(getattr(config, "name_or_path", "") or config.model_type)

    @classmethod
    def from_pretrained(cls, path: Any, *_: Any, **__: Any) -> NoReturn:
        raise _refuse(path)

    @classmethod
    def _from_config(cls, config: Any, **_: Any) -> NoReturn:
        raise _refuse(config.model_type)


def _register(plain: str) -> type:
    """The plain family's configuration under our name."""
    base, name = CONFIG_MAPPING[plain], segmented_type(plain)
    own: type = type(f"Lockstep{base.__name__}", (base,), {"model_type": name})
    own.__module__ = __name__
    AutoConfig.register(name, own, exist_ok=True)
    for auto in (AutoModel, AutoModelForCausalLM):
        auto.register(own, Segmented, exist_ok=True)
    # AutoTokenizer chooses by model_type among the tokenizer's own class and a better one.
    names, corrected = (
        tokenization_auto.TOKENIZER_MAPPING_NAMES,
        tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
    )
    if plain in names:
        names[name] = names[plain]
    if plain in corrected:
        corrected.add(name)
    return own


# Names of the module, so that a configuration can be pickled: vLLM hands it to its processes.
for _plain in PLAIN:
    _made = _register(_plain)
    globals()[_made.__name__] = _made
