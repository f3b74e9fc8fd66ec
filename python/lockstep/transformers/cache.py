"""The past of a batch of sequences that `generate` continues: a state and a plan for each row."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import Cache

from lockstep.contract.planner import Segmenter, push_batch
from lockstep.errors import LockstepError
from lockstep.operator.model import Model
from lockstep.operator.state import State

#: Plans of rows that nobody holds any more. A policy's engine must not be called while Python
#: collects garbage, so they are freed when the next row is made.
_dropped: deque[Segmenter] = deque()


class Row:
    """One sequence: what its next tokens need."""

    def __init__(self, state: State, segmenter: Segmenter):
        while _dropped:
            _dropped.popleft().close()
        self.state, self.segmenter = state, segmenter
        weakref.finalize(self, _dropped.append, segmenter)

    def fork(self) -> Row:
        return Row(self.state.fork(), self.segmenter.fork())


class SegmentedCache(Cache):
    """Sinks, carry, pool, retrieved rows, the open segment and the policy's state of every row.

    ``columns``: columns that were given so far, padding included. ``rows``: None before the first.
    """

    is_compileable = False

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.rows: list[Row] | None = None
        self.columns = 0

    def past(self, batch: int) -> list[int]:
        """How many tokens of each row were run (``LS_TRANSFORMERS_CACHE`` for another batch)."""
        if self.rows is None:
            return [0] * batch
        if len(self.rows) != batch:
            raise LockstepError(
                "LS_TRANSFORMERS_CACHE",
                f"expected {len(self.rows)} rows, as the cache holds, got {batch}",
                "Continue with as many rows, or without past_key_values.",
                "past_key_values",
            )
        return [row.state.position for row in self.rows]

    def advance(self, model: Model, tokens: Sequence[list[int]], columns: int) -> list[Tensor]:
        """Run more tokens of every row, none of some; last hidden states [T_row, E] of each."""
        if self.rows is None:
            self.rows = [Row(model.state(), model.planner.segmenter()) for _ in tokens]
        self.columns += columns
        edges = []
        cuts = push_batch([row.segmenter for row in self.rows], tokens)
        for row, ids, own in zip(self.rows, tokens, cuts, strict=True):
            at = row.state.position
            edges.append([*(e for e in own if e < at + len(ids)), at + len(ids)])
        out: list[list[Tensor]] = [[] for _ in tokens]
        begun = [row.state.position for row in self.rows]
        # In each round the next piece of every row that has one.
        for turn in range(max(len(one) for one in edges)):
            active = [n for n, one in enumerate(edges) if turn < len(one)]
            parts = []
            for n in active:
                state = self.rows[n].state
                parts.append(
                    (state, tokens[n][state.position - begun[n] : edges[n][turn] - begun[n]])
                )
            for n, hidden_TE in zip(active, model.step_hidden_many(parts), strict=True):
                out[n].append(hidden_TE)
                state = self.rows[n].state
                if state.position in cuts[n] and state.open_length:
                    model.close(state)
        return [torch.cat(one) for one in out]

    # What transformers calls

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.columns

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return -1

    def reorder_cache(self, beam_idx: Any) -> None:
        """Beam search: row n continues from row beam_idx[n]."""
        if self.rows is None:
            return
        old, taken, rows = self.rows, set(), []
        for n in torch.as_tensor(beam_idx).tolist():
            rows.append(old[n].fork() if n in taken else old[n])
            taken.add(n)
        self.rows = rows

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times."""
        count = 0 if self.rows is None else len(self.rows)
        self.reorder_cache(torch.arange(count).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        """The rows of these indices alone."""
        self.reorder_cache(indices)

    def reset(self) -> None:
        self.rows, self.columns = None, 0

    def fork(self) -> SegmentedCache:
        """An independent copy; what neither changes stays shared."""
        fork = SegmentedCache()
        fork.columns = self.columns
        fork.rows = None if self.rows is None else [row.fork() for row in self.rows]
        return fork

    def __deepcopy__(self, memo: Any) -> SegmentedCache:
        return self.fork()

    def __len__(self) -> int:
        return 0 if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        return f"SegmentedCache(rows={len(self)}, columns={self.columns})"

    @property
    def batch_size(self) -> int:
        return len(self)

    @property
    def is_initialized(self) -> bool:
        return self.rows is not None

    @property
    def is_croppable(self) -> bool:
        return False

    def crop(self, *_: Any, **__: Any) -> NoReturn:
        raise self._forward_only("crop")

    def activate_past_recording(self, *_: Any, **__: Any) -> NoReturn:
        raise self._forward_only("activate_past_recording")

    def update(self, *_: Any, **__: Any) -> NoReturn:
        raise self._forward_only("update")

    def _forward_only(self, name: str) -> LockstepError:
        return LockstepError(
            "LS_TRANSFORMERS_CACHE",
            f"expected a cache that only grows, got a call of {name}: state from before "
            "a boundary cannot be restored",
            "Generate without an assistant model or prompt lookup; fork() keeps a point to return "
            "to.",
            "past_key_values",
        )
