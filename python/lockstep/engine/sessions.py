"""The torch engine's Python end: sequences held here, known to Node by integer handles.

Called through `lockstep.bridge.rpc` by `src/engines/torch.ts`, one engine a process. Logits go back
through a file that both sides hold open (`Channel`), never as JSON.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..baseline.full_steps import FullState, FullSteps
from ..errors import LockstepError
from ..loader import load as load_model
from ..operator.model import LogitRows, Model
from ..operator.state import State
from ..retrieval import listed, padded
from .state_snapshots import StateSnapshots

MEMORY_FOLDER = Path("/dev/shm")


class Channel:
    """A file of raw float32 that Node reads: in memory where the system has such a place.

    Node unlinks the file as soon as it has opened it, so nothing is left behind however either side
    ends.
    """

    def __init__(self, folder: Path):
        self._fallback = folder
        self._folders = [MEMORY_FOLDER] if os.access(MEMORY_FOLDER, os.W_OK) else []
        self._fd, self.path = self._make()

    def write(self, rows_RV: Tensor) -> None:
        """Put the rows at the start of the file; `path` changes when the file had to move."""
        data = rows_RV.to(torch.float32).contiguous().numpy().data.cast("B")
        try:
            self._put(data)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._folders:
                raise
            self._folders = []
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd, self.path = self._make()
            self._put(data)

    def _put(self, data: memoryview) -> None:
        at = 0
        while at < len(data):
            at += os.pwrite(self._fd, data[at:], at)

    def _make(self) -> tuple[int, str]:
        folder = self._folders[0] if self._folders else self._fallback
        return tempfile.mkstemp(prefix="lockstep-logits-", dir=folder)


class Engine:
    """A model and its open sequences."""

    def __init__(self, model: Model | FullSteps, channel: Channel):
        self.model: Any = model
        self.channel = channel
        self.states: dict[int, State | FullState] = {}
        self.snapshots = StateSnapshots()
        self._next = 1

    def open(self) -> int:
        return self._enter(self.model.state())

    def _enter(self, state: State | FullState) -> int:
        handle = self._next
        self._next += 1
        self.states[handle] = state
        return handle

    def step(self, handle: int, tokens: list[int], rows: LogitRows, close: bool) -> dict[str, Any]:
        state = self._state(handle)
        try:
            logits_RV = self.model.step(state, tokens, rows=rows)
            boundary = None
            if close:
                closed = self.model.close(state)
                boundary = {"at": state.position, "retrieved": _listed(closed)}
            count = logits_RV.shape[0]
            if count:
                self.channel.write(logits_RV.cpu())
        except BaseException:
            # Layers before the failure have taken the tokens in, layers after it have not.
            del self.states[handle]
            raise
        return {"rows": count, "channel": self.channel.path, "boundary": boundary}

    def replace(self, handle: int, retrieved: list[dict[str, Any]]) -> None:
        positions = {part["layer"]: padded(part["positions"]) for part in retrieved}
        state = self._state(handle)
        assert isinstance(state, State), "full attention retrieves nothing"
        state.replace_retrieved(positions)

    def memory(self, handle: int) -> dict[str, int]:
        state = self._state(handle)
        held = state.nbytes()
        layout, config = self.model.layout, self.model.config
        row = 2 * config.num_hidden_layers * config.num_key_value_heads * layout.head_dim
        item = torch.empty(0, dtype=self.model.dtype).element_size()
        return {**held, "total": sum(held.values()), "fullAttention": row * item * state.position}

    def fork(self, handle: int) -> int:
        return self._enter(self._segmented(handle).fork())

    def snapshot(self, handle: int) -> dict[str, int]:
        number = self.snapshots.add(self._segmented(handle))
        return {"snapshot": number, "bytes": self.snapshots.nbytes}

    def resume(self, snapshot: int) -> int:
        return self._enter(self.snapshots.fork(snapshot))

    def drop(self, snapshot: int) -> int:
        self.snapshots.drop(snapshot)
        return self.snapshots.nbytes

    def free(self, handle: int) -> None:
        self.states.pop(handle, None)

    def _segmented(self, handle: int) -> State:
        state = self._state(handle)
        assert isinstance(state, State), "full attention is not served"
        return state

    def _state(self, handle: int) -> State | FullState:
        if handle not in self.states:
            raise LockstepError(
                "LS_ENGINE_SESSION",
                f"expected an open session, got {handle}: closed, or its last step failed",
                "Open a new session.",
            )
        return self.states[handle]


_engine: Engine | None = None


def load(path: str, dtype: str, threads: int | None, folder: str, execution: str) -> dict[str, Any]:
    """Open a checkpoint as this process's engine; what `EngineInfo` needs, and the logits' file.

    execution: ``segmented``, or ``full`` for stock full attention of the same weights.
    """
    global _engine
    if threads is not None:
        torch.set_num_threads(threads)
    model = load_model(path, dtype=dtype)
    _engine = Engine(FullSteps(model) if execution == "full" else model, Channel(Path(folder)))
    return {
        "digest": model.contract.digest,
        "vocabulary": model.vocabulary,
        "layers": model.config.num_hidden_layers,
        "kvHeads": model.config.num_key_value_heads,
        "queryHeads": model.config.num_attention_heads,
        "headDim": model.layout.head_dim,
        "channel": _engine.channel.path,
    }


def open_session() -> int:
    """A new, empty sequence's handle."""
    return _loaded().open()


def step(handle: int, tokens: list[int], rows: LogitRows, close: bool) -> dict[str, Any]:
    """Run tokens of the open segment: ``{rows, channel, boundary: {at, retrieved} | null}``."""
    return _loaded().step(handle, tokens, rows, close)


def replace(handle: int, retrieved: list[dict[str, Any]]) -> None:
    """Go on with these pool positions instead of what the last boundary retrieved."""
    _loaded().replace(handle, retrieved)


def memory(handle: int) -> dict[str, int]:
    """Bytes the sequence holds, by part."""
    return _loaded().memory(handle)


def fork(handle: int) -> int:
    """The handle of a new sequence with a copy of the state of this one."""
    return _loaded().fork(handle)


def snapshot(handle: int) -> dict[str, int]:
    """Copy a sequence: ``{snapshot, bytes}``, the number of the copy and what all copies hold."""
    return _loaded().snapshot(handle)


def resume(snapshot: int) -> int:
    """The handle of a new sequence that starts from the snapshot."""
    return _loaded().resume(snapshot)


def drop(snapshot: int) -> int:
    """Forget a snapshot; the bytes of those that are left. Idempotent."""
    return _loaded().drop(snapshot)


def free(handle: int) -> int:
    """Forget a sequence; how many are left. Idempotent."""
    _loaded().free(handle)
    return len(_loaded().states)


def _loaded() -> Engine:
    if _engine is None:
        raise LockstepError("LS_ENGINE_CLOSED", "expected a loaded engine, got none", "Call load.")
    return _engine


def _listed(positions: dict[int, Tensor]) -> list[dict[str, Any]]:
    return [{"layer": layer, "positions": listed(p)} for layer, p in sorted(positions.items())]
