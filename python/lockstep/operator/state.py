"""What crosses a boundary (sinks, carry, pool, retrieved rows) and what an open segment holds.

One `GroupState` serves every form of the operator: step by step, parallel, and training, where the
carried rows are part of the autograd graph. Carried tensors are never changed in place, so forks
share them.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .. import retrieval
from ..contract.spec import Spec
from ..errors import LockstepError
from .attention import attend
from .head_groups import Group, HeadGroups
from .kv_buffer import KVBuffer, join
from .ragged import Ragged
from .rope import Rope, rotate


class Retrieved(NamedTuple):
    """Pool positions [H, R'] retrieved at a boundary, and the queries that selected them.

    Queries are group means [H, Q, D]; for `blocks` those of `retrieval.at_distance`, [H, g, Q, D].
    """

    positions: Tensor
    queries: Tensor


class GroupState:
    """State of one head group in one layer. All keys are raw (unrotated) except ``_keys``."""

    def __init__(self, group: Group, spec: Spec, like: Tensor, head_dim: int):
        empty = like.new_empty(len(group.kv), 0, head_dim)
        self.group, self.spec = group, spec
        self.sink_k = self.sink_v = empty
        self.retrieved_k = self.retrieved_v = empty
        self.ragged: Ragged | None = None  # where heads have retrieved unlike numbers of them
        self.carry_k = self.carry_v = empty
        # The pool is what grows with the text: spare room in it is kept small.
        self.pool_k, self.pool_v = KVBuffer(1.25), KVBuffer(1.25)
        self.recent_q: Tensor | None = None
        self._empty = empty
        self.reset_segment()

    def reset_segment(self) -> None:
        """Start a new open segment."""
        self.recent_q = None
        self._raw: KVBuffer | None = None
        self._keys: KVBuffer | None = None
        self._values: KVBuffer | None = None

    def prefix(self) -> tuple[Tensor, Tensor]:
        """Raw keys and values that every query of the segment sees, [H, p, D] each."""
        one = join if self.ragged is None else lambda parts: self.ragged.join(*parts)
        return (
            one([self.sink_k, self.retrieved_k, self.carry_k]),
            one([self.sink_v, self.retrieved_v, self.carry_v]),
        )

    def rotated_prefix(self, rope: Rope, base: int) -> tuple[Tensor, Tensor]:
        """The prefix with row j of p at position base - p + j, where the segment starts at base."""
        k_HpD, v_HpD = self.prefix()
        p = k_HpD.shape[1]
        return (rotate(k_HpD, *rope.rows(base - p, base)) if p else k_HpD), v_HpD

    def attend_segment(
        self, q_HTD: Tensor, kr_HTD: Tensor, v_HTD: Tensor, rope: Rope, base: int, scale: float
    ) -> Tensor:
        """A whole segment at once, differentiable: rotated queries and keys -> [Hq_group, T, D]."""
        pk_HpD, pv_HpD = self.rotated_prefix(rope, base)
        return self._attend(q_HTD, join([pk_HpD, kr_HTD]), join([pv_HpD, v_HTD]), scale)

    def attend_append(
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
            self._keys, self._values, self._raw = KVBuffer(), KVBuffer(), KVBuffer()
            self._keys.append(pk_HpD, room)
            self._values.append(pv_HpD, room)
        self._keys.append(kr_HTD)
        self._values.append(v_HTD)
        if self._needs_raw(start):
            assert self._raw is not None
            self._raw.append(k_HTD, min(self.spec.max, 128))
        return self._attend(q_HTD, self._keys.view(), self._values.view(), scale)

    def _attend(self, q_HTD: Tensor, k_HND: Tensor, v_HND: Tensor, scale: float) -> Tensor:
        way = attend if self.ragged is None else self.ragged.attend
        return way(q_HTD, k_HND, v_HND, scale)

    def record_queries(self, q_HTD: Tensor, rope: Rope, scale: float) -> None:
        """Remember what the recipe asks of the segment's last raw queries [Hq_group, T, D]: group
        means [H, Q, D], or for `blocks` the queries themselves [H, g, Q, D]."""
        if not self.group.pooled:
            return
        self._rope, self._scale = rope, scale
        w = retrieval.recent(self.spec.recipe, self.spec.window)
        q_HgTD = q_HTD.detach()[:, -w:].unflatten(0, (len(self.group.kv), -1))
        new = q_HgTD if self.spec.recipe == "blocks" else retrieval.group_mean(q_HgTD)
        seen = new if self.recent_q is None else torch.cat((self.recent_q, new), -2)
        self.recent_q = seen[..., -w:, :]

    def close(self, start: int) -> Retrieved | None:
        """End the open segment that began at token ``start``; what a pooled group retrieved."""
        assert self._values is not None and self._raw is not None
        p = self._values.n - self._length
        own_v = self._values.view()[:, p:]
        own_k = self._raw.view() if self._raw.n else self._empty
        retrieved = self.cross_boundary(own_k, own_v, start)
        # Views would keep the segment's buffers alive.
        self.sink_k, self.sink_v = self.sink_k.clone(), self.sink_v.clone()
        self.carry_k, self.carry_v = self.carry_k.clone(), self.carry_v.clone()
        return retrieved

    def cross_boundary(self, k_HTD: Tensor, v_HTD: Tensor, start: int) -> Retrieved | None:
        """Cross the boundary after a segment with these raw keys and values (SEMANTICS.md 2, 4).

        Heads that carry keep the autograd graph of sinks and carry; nothing else keeps one.
        """
        if not self.group.carries:
            k_HTD, v_HTD = k_HTD.detach(), v_HTD.detach()
        A, M = self.spec.sinks, self.spec.carry
        sinks = max(0, min(A - start, v_HTD.shape[1]))
        if sinks:
            self.sink_k = join([self.sink_k, k_HTD[:, :sinks]])
            self.sink_v = join([self.sink_v, v_HTD[:, :sinks]])
        if self.group.carries and M:
            self.carry_k = join([self.carry_k, k_HTD[:, sinks:]])[:, -M:]
            self.carry_v = join([self.carry_v, v_HTD[:, sinks:]])[:, -M:]
        retrieved = None
        if self.group.pooled:
            self.pool_k.append(k_HTD[:, sinks:].detach())
            self.pool_v.append(v_HTD[:, sinks:].detach())
            retrieved = self._select()
            self.retrieve(retrieved.positions)
        self.reset_segment()
        return retrieved

    def _select(self) -> Retrieved:
        """What the recipe selects from the pool (SEMANTICS.md 4)."""
        spec, queries = self.spec, self.recent_q
        assert queries is not None
        if spec.recipe == "blocks":
            queries = retrieval.at_distance(queries, self._rope, spec.distance, self._scale)
        keys_HND = self.pool_k.view()[:, : self.eligible]
        size = spec.retrieval_size
        return Retrieved(
            retrieval.select(queries, keys_HND, size, spec.recipe, spec.block), queries
        )

    @property
    def eligible(self) -> int:
        """How many of the pool's rows, from its first, may be retrieved."""
        return self.spec.eligible(self.pool_k.n)

    def retrieve(self, positions_HR: Tensor) -> None:
        """Take these rows of the pool for the next segment; -1 in front of a head's is no row.

        Raises ValueError where heads have more than two numbers of rows.
        """
        self.ragged = Ragged.of(positions_HR)
        index_HRD = positions_HR.clamp_min(0)[..., None].expand(-1, -1, self._empty.shape[-1])
        self.retrieved_k = self.pool_k.view().gather(1, index_HRD)
        self.retrieved_v = self.pool_v.view().gather(1, index_HRD)

    def fork(self) -> GroupState:
        fork = copy(self)
        fork.pool_k, fork.pool_v = self.pool_k.fork(), self.pool_v.fork()
        for name in ("_raw", "_keys", "_values"):
            rows = getattr(self, name)
            setattr(fork, name, None if rows is None else rows.fork())
        return fork

    def tensors(self) -> list[Tensor]:
        """All that it holds; forks share what neither has changed."""
        own = [
            self.sink_k,
            self.sink_v,
            self.retrieved_k,
            self.retrieved_v,
            self.carry_k,
            self.carry_v,
        ]
        if self.recent_q is not None:
            own.append(self.recent_q)
        rows = [self.pool_k, self.pool_v, self._raw, self._keys, self._values]
        return own + [tensor for one in rows if one is not None for tensor in one.tensors()]

    def nbytes(self) -> dict[str, int]:
        size = lambda *xs: sum(x.numel() * x.element_size() for x in xs)  # noqa: E731
        opened = [r for r in (self._raw, self._keys, self._values) if r is not None]
        return {
            "sinks": size(self.sink_k, self.sink_v),
            "carry": size(self.carry_k, self.carry_v),
            "pool": self.pool_k.nbytes + self.pool_v.nbytes,
            "retrieved": size(self.retrieved_k, self.retrieved_v),
            "open": sum(r.nbytes for r in opened)
            + (0 if self.recent_q is None else size(self.recent_q)),
        }

    @property
    def _length(self) -> int:
        assert self._values is not None
        held = (self.sink_k, self.retrieved_k, self.carry_k)
        return self._values.n - sum(rows.shape[1] for rows in held)

    def _needs_raw(self, start: int) -> bool:
        carried = self.group.carries and self.spec.carry > 0
        return carried or self.group.pooled or start < self.spec.sinks


@dataclass
class Boundary:
    """A closed segment's end and, per layer of L_long, what it retrieved and from which queries.

    A `Retrieved` of each layer; `retrieval.listed` makes lists of positions.
    """

    at: int
    positions: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, Tensor] = field(default_factory=dict)

    def add(self, layer: int, retrieved: Retrieved) -> None:
        self.positions[layer], self.queries[layer] = retrieved


class State:
    """One sequence between steps. Made by `Model.state()`, advanced by `Model.step` and `close`."""

    def __init__(self, layout: HeadGroups, spec: Spec, like: Tensor):
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
                if (retrieved := group.close(self.start)) is not None:
                    boundary.add(layer, retrieved)
        self.open_length = 0
        return boundary

    def replace_retrieved(self, positions: Mapping[int, Tensor]) -> None:
        """Go on with other pool positions than the last boundary retrieved, {layer: [H_long, R']}.

        Only between a boundary and the first token after it (``LS_STATE_OPEN``); positions must fit
        the pool (``LS_STATE_POSITIONS``).
        """
        if self.open_length:
            raise LockstepError(
                "LS_STATE_OPEN",
                f"expected a fresh boundary, got a segment with {self.open_length} tokens",
                "replace retrieved rows right after close",
            )
        for layer, selected in positions.items():
            groups = self.layers[layer] if 0 <= layer < len(self.layers) else []
            pooled = [g for g in groups if g.group.pooled]
            selected = torch.as_tensor(selected, dtype=torch.int64)
            size = pooled[0].eligible if pooled else 0
            rows = min(self.spec.retrieval_size, size)
            if not pooled or not _fits(selected, len(pooled[0].group.kv), rows, size, self.spec):
                raise LockstepError(
                    "LS_STATE_POSITIONS",
                    f"expected {rows} pool positions in 0..{size - 1} for each long head of a "
                    f"retrieval layer, got shape {tuple(selected.shape)} for layer {layer}",
                    "pass the positions that another runtime retrieved at the same boundary",
                )
            pooled[0].retrieve(selected.to(pooled[0].retrieved_k.device))

    def fork(self) -> State:
        """An independent copy; what neither changes stays shared until it grows."""
        fork = copy(self)
        fork.layers = [[group.fork() for group in groups] for groups in self.layers]
        return fork

    def tensors(self) -> list[Tensor]:
        """All that it holds; forks share what neither has changed."""
        return [tensor for groups in self.layers for group in groups for tensor in group.tensors()]

    def nbytes(self) -> dict[str, int]:
        """Bytes held, by part: sinks, carry, pool, retrieved, open."""
        total = {"sinks": 0, "carry": 0, "pool": 0, "retrieved": 0, "open": 0}
        for groups in self.layers:
            for group in groups:
                for part, size in group.nbytes().items():
                    total[part] += size
        return total


def _fits(selected: Tensor, heads: int, rows: int, size: int, spec: Spec) -> bool:
    """Whether positions [H, R'] are what each of ``heads`` may have retrieved of ``size`` rows.

    With `blocks` a head that took the shorter last block has that many rows fewer, -1 in front.
    """
    if selected.dim() != 2 or len(selected) != heads:
        return False
    shorter = rows - (-size % spec.block if spec.recipe == "blocks" and rows < size else 0)
    if any(len(own) not in (rows, shorter) for own in retrieval.listed(selected)):
        return False
    return not selected.numel() or (int(selected.min()) >= -1 and int(selected.max()) < size)
