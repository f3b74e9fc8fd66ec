"""A logits processor that forces one request's next tokens; log-probabilities are taken before."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor


class TeacherForcing(LogitsProcessor):
    """For an engine that runs a single request, in this process."""

    tokens: ClassVar[list[int]] = []

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool):
        self._output: list[int] | None = None

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is not None and batch_update.added:
            self._output = batch_update.added[-1][3]

    def apply(self, logits: Tensor) -> Tensor:
        at = 0 if self._output is None else len(self._output)
        if at < len(self.tokens):
            kept = logits[:, self.tokens[at]].clone()
            logits.fill_(float("-inf"))
            logits[:, self.tokens[at]] = kept
        return logits
