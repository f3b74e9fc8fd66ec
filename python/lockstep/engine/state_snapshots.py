"""Snapshots of states of the torch engine, and what they cost.

Memory that several of them share counts once.
"""

from __future__ import annotations

from ..operator.state import State


class StateSnapshots:
    """States by number; ``nbytes`` is what all of them hold."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._states: dict[int, State] = {}
        self._holders: dict[int, int] = {}
        self._next = 1

    def add(self, state: State) -> int:
        """Store a copy of a state; returns its number."""
        number = self._next
        self._next += 1
        self._states[number] = copy = state.fork()
        for address, size in _memory(copy).items():
            holders = self._holders.get(address, 0)
            self._holders[address] = holders + 1
            if not holders:
                self.nbytes += size
        return number

    def fork(self, number: int) -> State:
        """A state to continue with."""
        return self._states[number].fork()

    def drop(self, number: int) -> None:
        """Forget it. Idempotent."""
        state = self._states.pop(number, None)
        if state is None:
            return
        for address, size in _memory(state).items():
            self._holders[address] -= 1
            if not self._holders[address]:
                del self._holders[address]
                self.nbytes -= size


def _memory(state: State) -> dict[int, int]:
    """Address and bytes of each piece of memory behind its tensors."""
    storages = [tensor.untyped_storage() for tensor in state.tensors()]
    return {storage.data_ptr(): storage.nbytes() for storage in storages if storage.nbytes()}
