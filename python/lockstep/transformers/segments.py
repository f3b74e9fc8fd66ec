"""What a transformers model of ours needs beside its weights: its contract, and the operator."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from lockstep.contract.reader import Contract
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.operator.model import Model


class Segments:
    """Shared by a causal model and its backbone, which both may be called.

    ``files``: what a saved copy takes over from the checkpoint. ``truncation``: K, how many
    boundaries the gradient crosses. ``steps``, ``tokens``: trained so far, for a saved contract.
    """

    def __init__(self, folder: Path, contract: Contract, files: dict[str, bytes], truncation: int):
        self.folder, self.contract, self.files = folder, contract, files
        self.truncation = truncation
        trained = contract.document["trained"]
        self.steps, self.tokens = int(trained["steps"]), int(trained["tokens"])
        self._operator: Model | None = None

    def add(self, tokens: int) -> None:
        """A backward pass over so many tokens."""
        self.steps, self.tokens = self.steps + 1, self.tokens + tokens

    def operator(self, body: Any) -> Model:
        """The operator around a backbone; made again where its weights were moved or cast."""
        weight = body.get_input_embeddings().weight
        made = self._operator
        if (
            made is None
            or made.module.model is not body
            or (made.dtype, made.device) != (weight.dtype, weight.device)
        ):
            face = SimpleNamespace(
                model=body,
                config=body.config,
                get_input_embeddings=body.get_input_embeddings,
                modules=body.modules,
            )
            spec = Spec.from_contract(self.contract)
            made = self._operator = Model(face, spec, self.contract)
        return made

    def __deepcopy__(self, memo: Any) -> Segments:
        copied = Segments(self.folder, self.contract, self.files, self.truncation)
        copied.steps, copied.tokens = self.steps, self.tokens
        return copied

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_operator": None}


def check_dropout(body: nn.Module) -> None:
    """Raises ``LS_TRANSFORMERS_DROPOUT`` where training would draw random numbers."""
    for name, part in body.named_modules():
        if isinstance(part, nn.Dropout) and part.p > 0:
            raise LockstepError(
                "LS_TRANSFORMERS_DROPOUT",
                f"expected no dropout, got {part.p} in {name}: what is trained is what is served",
                "Set dropout to 0 (lora_dropout=0.0 in a LoraConfig).",
                name,
            )
