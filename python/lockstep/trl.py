"""TRL's trainers on segmented checkpoints, in a script of one's own.

    from lockstep.trl import SFTTrainer        # instead of: from trl import SFTTrainer

The forward pass and the exact truncated gradient come with the model (`lockstep.transformers`).
What the mixin adds: it refuses what would train something else than is served, and every checkpoint
that the trainer writes carries the contract and the tokenizer's own bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lockstep.transformers  # noqa: F401  (registers the checkpoints' classes)

from .errors import LockstepError
from .install import install
from .transformers.adapters import save_adapter
from .transformers.saving import save_merged, seal
from .transformers.segments import Segments

try:
    import trl
except ImportError as error:
    raise LockstepError(
        "LS_TRL_MISSING",
        f"expected the package trl, got: {error}",
        install("trl"),
    ) from error

#: Options of a trainer that put something else in the place of the model's own pass.
_REFUSED = {
    "fsdp": "shares weights out in a way that segments do not follow",
    "deepspeed": "shares weights out in a way that segments do not follow",
    "use_liger_kernel": "computes layers by its own kernels",
    "activation_offloading": "moves activations that segments free themselves",
    "chat_template_path": "changes the tokenizer, whose bytes are part of the contract",
    "torch_compile": "compiles a pass whose shape changes with every segment",
    "neftune_noise_alpha": "adds noise that serving does not have",
}


class Segmented:
    """Mixin for TRL's trainers and transformers' Trainer: ``class T(Segmented, KTOTrainer)``.

    Raises ``LS_TRL_MODEL`` for a model that has no contract, ``LS_TRL_OPTION`` for an option that
    segmented training cannot honour.
    """

    def __init__(self, *args: Any, **options: Any):
        for value in (*args, *options.values()):
            _check_arguments(value)
        super().__init__(*args, **options)
        self._segments = _segments(self._bare())
        self._begun = self._segments.steps

    def save_merged(self, directory: Any) -> None:
        """Write the checkpoint that serves; adapters are added to the model's weights."""
        bare = self._bare()
        self._count()
        if hasattr(bare, "peft_config"):
            save_merged(bare, directory)
        else:
            bare.save_pretrained(directory)

    def save_adapter(self, directory: Any) -> None:
        """Write the adapter alone, sealed to its base: ``lockstep serve --adapter NAME=DIR``."""
        self._count()
        save_adapter(self._bare(), directory)

    def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
        me: Any = self
        folder = Path(output_dir if output_dir is not None else me.args.output_dir)
        self._count()
        stock: Any = super()
        stock._save(output_dir, state_dict)
        # An adapter's folder is none of a whole checkpoint: its base is, or save_merged's.
        if me.args.should_save and not hasattr(self._bare(), "peft_config"):
            seal(folder, self._segments)

    def _count(self) -> None:
        """Optimizer steps, where the model has counted backward passes."""
        me: Any = self
        self._segments.steps = self._begun + int(me.state.global_step)

    def _bare(self) -> Any:
        me: Any = self
        return me.accelerator.unwrap_model(me.model)


class SFTTrainer(Segmented, trl.SFTTrainer):
    """TRL's SFTTrainer, in segments: all its data formats, loss masks, packing and PEFT."""


class DPOTrainer(Segmented, trl.DPOTrainer):
    """TRL's DPOTrainer, in segments; the reference runs under the same contract."""


def _segments(model: Any) -> Segments:
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    found = getattr(base, "segments", None)
    if isinstance(found, Segments):
        return found
    raise LockstepError(
        "LS_TRL_MODEL",
        f"expected a segmented checkpoint, got {type(base).__name__}, which has no contract",
        "Put a contract on it: lockstep attach MODEL --config F --out DIR",
        "model",
    )


def _check_arguments(value: Any) -> None:
    if not hasattr(value, "per_device_train_batch_size"):
        return
    for name, why in _REFUSED.items():
        given = getattr(value, name, None)
        if given:
            raise LockstepError(
                "LS_TRL_OPTION",
                f"expected {name} to be off, got {given!r}: it {why}",
                f"Leave {name} out.",
                name,
            )
