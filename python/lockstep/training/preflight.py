"""What cannot be trained, said before any text is read."""

from __future__ import annotations

import json
import math
from pathlib import Path

from lockstep.contract.model_type import plain_config
from lockstep.errors import LockstepError
from lockstep.operator.model import check_architecture
from lockstep.operator.rope import check_scaling

#: Nats a token above guessing at which a model is taken not to know its tokens.
ABOVE_CHANCE = 1.0


def check_model(directory: Path) -> None:
    """Refuse what segments cannot run and a tokenizer that is not the model's.

    Raises LS_MODEL_ARCHITECTURE (encoders and other families), LS_MODEL_SLIDING, LS_ROPE_SCALING
    (a scaling that depends on the length), LS_TRAIN_VOCABULARY.
    """
    config = plain_config(directory)
    check_architecture(config)
    check_scaling(config)
    tokenizer = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    # Added tokens may lie beyond (a padding token that no text has); the data says if one is used.
    vocabulary = tokenizer.get("model", {}).get("vocab") or [""]
    largest = max(vocabulary.values()) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    if largest >= config.vocab_size:
        raise LockstepError(
            "LS_TRAIN_VOCABULARY",
            f"expected a tokenizer with ids below {config.vocab_size}, as the model has rows, got "
            f"one with id {largest}",
            "Use the tokenizer.json that belongs to the model.",
        )


def chance_warning(loss: float, vocabulary: int) -> str | None:
    """What to say of a first loss that is worse than guessing among ``vocabulary`` tokens."""
    if loss < math.log(vocabulary) + ABOVE_CHANCE:
        return None
    return (
        f"the first loss, {loss:.2f} nats per token, is worse than guessing "
        f"({math.log(vocabulary):.2f}): does tokenizer.json belong to this model, are "
        "its weights whole?"
    )
