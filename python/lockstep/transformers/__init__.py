"""``import lockstep.transformers``: transformers runs segmented checkpoints in segments.

Without this module transformers stops at the ``model_type`` that it does not know. Importing it
registers a configuration for each family, which vLLM and AutoTokenizer need, and for
AutoModelForCausalLM a class whose ``forward`` and ``generate`` run under the checkpoint's contract.
"""

from __future__ import annotations

from typing import Any, NoReturn

from lockstep.deferred import deferred

with deferred():
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM
    from transformers.models.auto import tokenization_auto

from lockstep.contract.model_type import PLAIN, segmented_type
from lockstep.errors import LockstepError


def _refuse(model: Any) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_SEGMENTED",
        f"expected a checkpoint for full attention, got {model}, which runs in segments under its "
        "contract: AutoModelForCausalLM.from_pretrained and lockstep.load run it, lockstep detach "
        "makes a plain copy",
        "Call AutoModelForCausalLM.from_pretrained(DIR) or lockstep.load(DIR); or, for full "
        "attention on purpose: lockstep detach DIR --out PLAIN",
        "model_type",
    )


class Segmented:
    """What AutoModel finds for a segmented configuration: a refusal."""

    def __init__(self, config: Any, *_: Any, **__: Any):
        raise _refuse(getattr(config, "name_or_path", "") or config.model_type)

    @classmethod
    def from_pretrained(cls, path: Any, *_: Any, **__: Any) -> Any:
        raise _refuse(path)

    @classmethod
    def _from_config(cls, config: Any, **_: Any) -> NoReturn:
        raise _refuse(config.model_type)


class SegmentedForCausalLM(Segmented):
    """What AutoModelForCausalLM finds: loads the family's class (model.py) on first use, so that
    who wants configurations alone does not wait for it. Weights without a contract are refused."""

    @classmethod
    def from_pretrained(cls, path: Any, *args: Any, **options: Any) -> Any:
        from .loading import load

        return load(path, *args, **options)


def _register(plain: str) -> type:
    """The plain family's configuration under our name."""
    base, name = CONFIG_MAPPING[plain], segmented_type(plain)
    # auto_map: TRL 1.16 reads it where the architecture is not one of transformers' own.
    own: type = type(f"Lockstep{base.__name__}", (base,), {"model_type": name, "auto_map": {}})
    own.__module__ = __name__
    AutoConfig.register(name, own, exist_ok=True)
    AutoModel.register(own, Segmented, exist_ok=True)
    AutoModelForCausalLM.register(own, SegmentedForCausalLM, exist_ok=True)
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
