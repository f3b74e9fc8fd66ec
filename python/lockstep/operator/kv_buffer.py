"""Key/value rows that grow at their end, and can be shared by forks until one of them grows."""

from __future__ import annotations

import torch
from torch import Tensor


class KVBuffer:
    """A growing tensor [H, n, D] in a larger buffer; appending copies only what is new."""

    def __init__(self, growth: float = 1.5):
        self.n = 0
        self._growth = growth
        self._data_HCD: Tensor | None = None
        #: Rows of the buffer that anyone has written: forks share it with the buffer.
        self._written = [0]

    def append(self, x_HTD: Tensor, reserve: int = 0) -> None:
        """Add rows; a buffer that must be reallocated holds at least ``reserve``."""
        end = self.n + x_HTD.shape[1]
        data = self._data_HCD
        # Forks share the buffer, and each row of it is written once. The first fork to append
        # writes after its own rows; a fork that appends later copies the buffer.
        if data is None or self._written[0] != self.n or end > data.shape[1]:
            H, _, D = x_HTD.shape
            size = max(end, reserve, int(self.n * self._growth))
            grown = x_HTD.new_empty(H, size, D)
            if data is not None:
                grown[:, : self.n] = data[:, : self.n]
            self._data_HCD = data = grown
            self._written = [self.n]
        data[:, self.n : end] = x_HTD
        self._written[0] = end
        self.n = end

    def view(self) -> Tensor:
        """The rows so far, [H, n, D], without a copy. Only valid once something was appended."""
        assert self._data_HCD is not None
        return self._data_HCD[:, : self.n]

    def fork(self) -> KVBuffer:
        """Another reader of the same rows; the first to append does so in place, others copy."""
        fork = KVBuffer(self._growth)
        fork.n, fork._data_HCD, fork._written = self.n, self._data_HCD, self._written
        return fork

    def tensors(self) -> list[Tensor]:
        """The buffer, where there is one."""
        return [] if self._data_HCD is None else [self._data_HCD]

    @property
    def nbytes(self) -> int:
        data = self._data_HCD
        return 0 if data is None else data.numel() * data.element_size()


def join(parts: list[Tensor]) -> Tensor:
    """Concatenate rows [H, n, D], leaving out empty ones (a lone part is returned as it is)."""
    filled = [x for x in parts if x.shape[1]]
    if len(filled) == 1:
        return filled[0]
    return torch.cat(filled, 1) if filled else parts[0]
