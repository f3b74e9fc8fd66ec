"""What crosses a boundary (sinks, carry, pool, retrieved rows) and what an open segment holds.

One `GroupState` serves every form of the operator: step by step, parallel, and training, where the
carried rows are part of the autograd graph. Carried tensors are never changed in place, so forks
share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import retrieval
from .attention import attend
from .errors import LockstepError
from .heads import Group, Layout
from .rope import Rope, rotate
from .rows import Rows, join
from .spec import Spec


class GroupState:
    """State of one head group in one layer. All keys are raw (unrotated) except ``_keys``."""

    def __init__(self, group: Group, spec: Spec, like: Tensor, head_dim: int):
        empty = like.new_empty(len(group.kv), 0, head_dim)
        self.group, self.spec = group, spec
        self.sink_k = self.sink_v = empty
        # Local heads: the carry. Long heads: the retrieved rows.
        self.extra_k = self.extra_v = empty
        # The pool is what grows with the text: spare room in it is kept small.
        self.pool_k, self.pool_v = Rows(1.25), Rows(1.25)
        self.recent_q: Tensor | None = None
        self._empty = empty
        self.reopen()

    def reopen(self) -> None:
        """Start a new open segment."""
        self.recent_q = None
        self._raw: Rows | None = None
        self._keys: Rows | None = None
        self._values: Rows | None = None

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Raw keys and values that every query of the segment sees, [H, p, D] each."""
        return join([self.sink_k, self.extra_k]), join([self.sink_v, self.extra_v])

    def rotated_prefix(self, rope: Rope, base: int) -> tuple[Tensor, Tensor]:
        """The prefix with row j of p at position base - p + j, where the segment starts at base."""
        k_HpD, v_HpD = self.prefix()
        p = k_HpD.shape[1]
        return (rotate(k_HpD, *rope.rows(base - p, base)) if p else k_HpD), v_HpD

    def attend_whole(
        self, q_HTD: Tensor, kr_HTD: Tensor, v_HTD: Tensor, rope: Rope, base: int, scale: float
    ) -> Tensor:
        """A whole segment at once, differentiable: rotated queries and keys -> [Hq_group, T, D]."""
        pk_HpD, pv_HpD = self.rotated_prefix(rope, base)
        return attend(q_HTD, join([pk_HpD, kr_HTD]), join([pv_HpD, v_HTD]), scale)

    def attend_more(
        self,
        q_HTD: Tensor,
        k_HTD: Tensor,
        kr_HTD: Tensor,
        v_HTD: Tensor,
        rope: Rope,
        base: int,
        start: int,
        scale: float,
    ) -> Tensor:
        """The next T tokens of the open segment: rotated queries, raw and rotated keys, values."""
        if self._keys is None or self._values is None:
            pk_HpD, pv_HpD = self.rotated_prefix(rope, base)
            room = pk_HpD.shape[1] + max(k_HTD.shape[1], min(self.spec.max, 128))
            self._keys, self._values, self._raw = Rows(), Rows(), Rows()
            self._keys.append(pk_HpD, room)
            self._values.append(pv_HpD, room)
        self._keys.append(kr_HTD)
        self._values.append(v_HTD)
        if self._needs_raw(start):
            assert self._raw is not None
            self._raw.append(k_HTD, min(self.spec.max, 128))
        return attend(q_HTD, self._keys.view(), self._values.view(), scale)

    def note_queries(self, q_HTD: Tensor) -> None:
        """Remember the group means of the segment's last raw queries [Hq_group, T, D]."""
        if not self.group.pooled:
            return
        H, w = len(self.group.kv), retrieval.recent(self.spec.recipe)
        q_HgTD = q_HTD.detach()[:, -w:].unflatten(0, (H, -1))
        mean_HQD = retrieval.group_mean(q_HgTD)
        seen = mean_HQD if self.recent_q is None else torch.cat((self.recent_q, mean_HQD), 1)
        self.recent_q = seen[:, -w:]

    def close(self, start: int) -> Tensor | None:
        """End the open segment that began at token ``start``; positions [H, R'] or None."""
        assert self._values is not None and self._raw is not None
        p = self._values.n - self._length
        own_v = self._values.view()[:, p:]
        own_k = self._raw.view() if self._raw.n else self._empty
        positions = self.roll(own_k, own_v, start)
        # Views would keep the segment's buffers alive.
        self.sink_k, self.sink_v = self.sink_k.clone(), self.sink_v.clone()
        self.extra_k, self.extra_v = self.extra_k.clone(), self.extra_v.clone()
        return positions

    def roll(self, k_HTD: Tensor, v_HTD: Tensor, start: int) -> Tensor | None:
        """Cross the boundary after a segment with these raw keys and values (SEMANTICS.md 2, 4).

        Local heads keep the autograd graph of sinks and carry; long heads keep none.
        """
        if not self.group.local:
            k_HTD, v_HTD = k_HTD.detach(), v_HTD.detach()
        A, M = self.spec.sinks, self.spec.carry
        sinks = max(0, min(A - start, v_HTD.shape[1]))
        if sinks:
            self.sink_k = join([self.sink_k, k_HTD[:, :sinks]])
            self.sink_v = join([self.sink_v, v_HTD[:, :sinks]])
        if self.group.local and M:
            self.extra_k = join([self.extra_k, k_HTD[:, sinks:]])[:, -M:]
            self.extra_v = join([self.extra_v, v_HTD[:, sinks:]])[:, -M:]
        positions = None
        if self.group.pooled:
            self.pool_k.append(k_HTD[:, sinks:])
            self.pool_v.append(v_HTD[:, sinks:])
            assert self.recent_q is not None
            positions = retrieval.select(
                self.recent_q, self.pool_k.view(), self.spec.retrieval_size, self.spec.recipe
            )
            self.retrieve(positions)
        self.reopen()
        return positions

    def retrieve(self, positions_HR: Tensor) -> None:
        """Take these rows of the pool for the next segment."""
        index_HRD = positions_HR[..., None].expand(-1, -1, self._empty.shape[-1])
        self.extra_k = self.pool_k.view().gather(1, index_HRD)
        self.extra_v = self.pool_v.view().gather(1, index_HRD)

    def fork(self) -> GroupState:
        twin = copy(self)
        twin.pool_k, twin.pool_v = self.pool_k.fork(), self.pool_v.fork()
        for name in ("_raw", "_keys", "_values"):
            rows = getattr(self, name)
            setattr(twin, name, None if rows is None else rows.fork())
        return twin

    def nbytes(self) -> dict[str, int]:
        size = lambda *xs: sum(x.numel() * x.element_size() for x in xs)  # noqa: E731
        extra = size(self.extra_k, self.extra_v)
        opened = [r for r in (self._raw, self._keys, self._values) if r is not None]
        return {
            "sinks": size(self.sink_k, self.sink_v),
            "carry": extra if self.group.local else 0,
            "pool": self.pool_k.nbytes + self.pool_v.nbytes,
            "retrieved": 0 if self.group.local else extra,
            "open": sum(r.nbytes for r in opened)
            + (0 if self.recent_q is None else size(self.recent_q)),
        }

    @property
    def _length(self) -> int:
        assert self._values is not None
        return self._values.n - self.sink_k.shape[1] - self.extra_k.shape[1]

    def _needs_raw(self, start: int) -> bool:
        carried = self.group.local and self.spec.carry > 0
        return carried or self.group.pooled or start < self.spec.sinks


@dataclass
class Boundary:
    """A closed segment's end and, per layer of L_long, what it retrieved and from which queries."""

    at: int
    positions: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] = field(default_factory=dict)


class State:
    """One sequence between steps. Made by `Model.state()`, advanced by `Model.step` and `close`."""

    def __init__(self, layout: Layout, spec: Spec, like: Tensor):
        self.spec = spec
        self.position = 0
        self.open_length = 0
        self.layers = [
            [GroupState(group, spec, like, layout.head_dim) for group in groups]
            for groups in layout.layers
        ]

    @property
    def start(self) -> int:
        """First token of the open segment."""
        return self.position - self.open_length

    def close(self) -> Boundary:
        """End the open segment: carry, pool and retrieval move on (``LS_STATE_EMPTY``)."""
        if self.open_length == 0:
            raise LockstepError(
                "LS_STATE_EMPTY",
                "expected tokens in the segment to close, got an empty one",
                "step at least one token before close",
            )
        boundary = Boundary(self.position)
        for layer, groups in enumerate(self.layers):
            for group in groups:
                queries = group.recent_q
                positions = group.close(self.start)
                if positions is not None and queries is not None:
                    boundary.positions[layer], boundary.queries[layer] = positions, queries
        self.open_length = 0
        return boundary

    def replace_retrieved(self, positions: Mapping[int, Tensor]) -> None:
        """Go on with other pool positions than the last boundary chose, {layer: [H_long, R']}.

        Only between a boundary and the first token after it (``LS_STATE_OPEN``); positions must fit
        the pool (``LS_STATE_POSITIONS``).
        """
        if self.open_length:
            raise LockstepError(
                "LS_STATE_OPEN",
                f"expected a fresh boundary, got a segment with {self.open_length} tokens",
                "replace retrieved rows right after close",
            )
        for layer, chosen in positions.items():
            groups = self.layers[layer] if 0 <= layer < len(self.layers) else []
            pooled = [g for g in groups if g.group.pooled]
            chosen = torch.as_tensor(chosen, dtype=torch.int64)
            size = pooled[0].pool_k.n if pooled else 0
            rows = min(self.spec.retrieval_size, size)
            if (
                not pooled
                or chosen.shape != (len(pooled[0].group.kv), rows)
                or (chosen.numel() and (int(chosen.min()) < 0 or int(chosen.max()) >= size))
            ):
                raise LockstepError(
                    "LS_STATE_POSITIONS",
                    f"expected {rows} pool positions in 0..{size - 1} for each long head of a "
                    f"retrieval layer, got shape {tuple(chosen.shape)} for layer {layer}",
                    "pass the positions that another runtime retrieved at the same boundary",
                )
            pooled[0].retrieve(chosen.to(pooled[0].extra_k.device))

    def fork(self) -> State:
        """An independent copy; what neither changes stays shared until it grows."""
        twin = copy(self)
        twin.layers = [[group.fork() for group in groups] for groups in self.layers]
        return twin

    def nbytes(self) -> dict[str, int]:
        """Bytes held, by part: sinks, carry, pool, retrieved, open."""
        total = {"sinks": 0, "carry": 0, "pool": 0, "retrieved": 0, "open": 0}
        for groups in self.layers:
            for group in groups:
                for part, size in group.nbytes().items():
                    total[part] += size
        return total
