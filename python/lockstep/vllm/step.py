"""Index tensors of one step: which rows of which cache every query sees. Shared by all layers.

Spans are split into runs of at most `BLOCK` queries, and runs of like shape form a bucket: one
gather, one attention call a bucket and kind of head group, whatever requests the runs belong to.
All decoding requests are one bucket of runs with a single query.

Columns of a bucket's keys: the A sinks, the R retrieved rows (kind ``pool`` alone), then the window
of contiguous tokens: carry and open segment, or the open segment where a kind does not carry. The
sinks' columns hold the sequence's first A tokens whether they lie in the prefix or in the segment
itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract.spec import Spec
from ..operator.rope import Rope
from .caches import Cache, CacheMetadata, carried
from .rotary import InPlaceRotation, table
from .tracker import Array, QuerySpan

BLOCK = 128  # queries of a run: blocks of queries leave most of the masked triangle out
SCORES = 1 << 21  # query-key pairs of a bucket: bounds its mask and its gathered rows
Rotation = tuple[Tensor, Tensor]


@dataclass
class KeyIndex:
    """What a bucket's runs see in one kind's cache: n runs, W columns."""

    mask: Tensor  # [n, 1, q, W], 0 or -inf
    block_nW: Tensor
    offset_nW: Tensor
    sinks: Rotation | None  # kinds that store rotated keys: the sinks' own rotation [n, 1, A, D]
    at_nW: Tensor | None  # kind pool: position of each column; its segment's prefix counts from 0
    rows: dict[int, Tensor] = field(default_factory=dict)  # by head count: cache rows [n * h * W]
    #: By head count: the rotation of those rows.
    turns: dict[int, InPlaceRotation] = field(default_factory=dict)
    masks: dict[int, Tensor] = field(default_factory=dict)  # by group: see `mask_of`

    def mask_of(self, group: int) -> Tensor:
        """[n, 1, group * q, W]: the mask of a KV head's queries, query head by query head."""
        if group not in self.masks:
            self.masks[group] = self.mask.repeat(1, 1, group, 1) if group > 1 else self.mask
        return self.masks[group]

    def uneven_mask(self, group: int, absent_nHR: Tensor, sinks: int) -> Tensor:
        """`mask_of` by head, [n, H, group * q, W]: retrieved rows that are absent stay unseen."""
        behind = self.mask.shape[-1] - sinks - absent_nHR.shape[-1]
        absent_nH1W = F.pad(absent_nHR, (sinks, behind))[:, :, None]
        return self.mask_of(group).masked_fill(absent_nH1W, -torch.inf)


@dataclass
class Bucket:
    """n runs of at most q queries each."""

    count: int
    queries: int
    flat_nq: Tensor  # index of each query in the batch; padded ones repeat their run's first
    whole: bool  # the runs are the batch itself, in order
    kept: Tensor | None  # of the n * q queries those that are not padding; None: all
    target: Tensor  # indices of the kept ones in the batch
    row_n: Tensor
    # Pool block that holds what the run's segment retrieved (0, the null block: nothing), or the
    # closing of this very step that chooses it, else -1; on the host and on the device.
    retrieved_block: Array
    retrieved_here: Array
    retrieved_block_n: Tensor
    retrieved_here_n: Tensor
    keys: dict[str, KeyIndex] = field(default_factory=dict)


@dataclass
class SegmentEnd:
    """A segment of row ``row`` that ends in this step after token ``end`` - 1."""

    row: int
    start: int
    end: int
    flat: int  # index of its last token in the batch
    block: int  # pool block of its last token
    last: bool  # no later closing of this step writes to that block


@dataclass
class WriteIndex:
    """Where a kind's new rows go; ``rows`` by head count [T * h]."""

    block_T: Tensor
    offset_T: Tensor
    rows: dict[int, Tensor] = field(default_factory=dict)


class SegmentMetadata:
    """Everything that attention needs to know of one batch."""

    def __init__(
        self,
        spec: Spec,
        rope: Rope,
        caches: dict[str, Cache],
        metadata: dict[str, CacheMetadata],
        tables: dict[str, Array],
        spans: Sequence[QuerySpan],
        tokens: int,
    ):
        self.spec, self.rope, self.tokens = spec, rope, tokens
        self.caches, self.metadata, self._tables = caches, metadata, tables
        self.device = rope.device
        position_T = np.concatenate([np.arange(p.a, p.b) for p in spans])
        flat_T = np.concatenate([np.arange(p.flat, p.flat + p.b - p.a) for p in spans])
        start_T = np.concatenate([np.full(p.b - p.a, p.start) for p in spans])
        order_T = np.argsort(flat_T)
        position_T, start_T = position_T[order_T], start_T[order_T]
        own_TD = table(*rope.at(self._tensor(position_T)))
        self.own = InPlaceRotation(own_TD, torch.arange(tokens, device=self.device))
        raw_t = np.flatnonzero(position_T < spec.sinks)
        self.raw_t = self._tensor(raw_t) if len(raw_t) else None
        if "pool" in caches:
            # Positions within a segment, its prefix standing before it from 0 on.
            self._within_ND = table(*rope.rows(0, spec.prefix_rows(1 << 62) + spec.max))
            at_T = self._retrieved(start_T)[1] + position_T - start_T
            self.relative = InPlaceRotation(self._within_ND, self._tensor(at_T))
        self.written = {kind: self._written(kind) for kind in caches}
        self.closings = self._closings(spans) if "pool" in caches else []
        self.buckets = [self._bucket(runs) for runs in _buckets(_runs(spans), spec)]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _retrieved(self, start: Array) -> tuple[Array, Array]:
        """Rows retrieved for segments that start there, and rows of the pool's whole prefix."""
        sinks = np.minimum(self.spec.sinks, start)
        carry = np.minimum(carried(self.spec, "pool"), start - sinks)
        count = np.minimum(self.spec.retrieval_size, start - sinks - carry)
        return count, sinks + count + carry

    def _written(self, kind: str) -> WriteIndex:
        slots_T = self.metadata[kind].slots_T[: self.tokens].long()
        block = self.metadata[kind].block_size
        return WriteIndex(slots_T // block, slots_T % block)

    def write_rows(self, kind: str, heads: int) -> Tensor:
        """Cache rows [T * heads] of the new tokens."""
        written = self.written[kind]
        if heads not in written.rows:
            first = self.caches[kind].index(written.block_T, written.offset_T, heads)
            head = torch.arange(heads, device=self.device)
            written.rows[heads] = (first[:, None] + head).flatten()
        return written.rows[heads]

    def key_rows(self, bucket: Bucket, kind: str, heads: int) -> Tensor:
        """Cache rows [n * heads * W] of what a bucket's runs see."""
        keys = bucket.keys[kind]
        if heads not in keys.rows:
            first = self.caches[kind].index(keys.block_nW, keys.offset_nW, heads)
            head = torch.arange(heads, device=self.device)
            keys.rows[heads] = (first[:, None] + head[:, None]).flatten()
        return keys.rows[heads]

    def key_turn(self, keys: KeyIndex, heads: int) -> InPlaceRotation:
        """The rotation of the rows that `key_rows` names in the pool."""
        if heads not in keys.turns:
            assert keys.at_nW is not None
            at = keys.at_nW[:, None].expand(-1, heads, -1).flatten()
            keys.turns[heads] = InPlaceRotation(self._within_ND, at)
        return keys.turns[heads]

    def uneven_turn(self, keys: KeyIndex, absent_nHR: Tensor) -> InPlaceRotation:
        """`key_turn` where heads lack retrieved rows: their sinks stand as much nearer."""
        assert keys.at_nW is not None
        at_nHW = keys.at_nW[:, None].repeat(1, absent_nHR.shape[1], 1)
        at_nHW[:, :, : self.spec.sinks] += absent_nHR.sum(-1, keepdim=True)
        return InPlaceRotation(self._within_ND, at_nHW.flatten())

    # Closings

    def _closings(self, spans: Sequence[QuerySpan]) -> list[SegmentEnd]:
        table, size = self._tables["pool"], self.metadata["pool"].block_size
        found = [
            SegmentEnd(
                p.row,
                p.start,
                p.b,
                p.flat + p.b - p.a - 1,
                int(table[p.row, (p.b - 1) // size]),
                True,
            )
            for p in spans
            if p.closes
        ]
        seen: set[int] = set()
        for closing in reversed(found):
            closing.last = closing.block not in seen
            seen.add(closing.block)
        return found

    # Buckets

    def _bucket(self, runs: np.ndarray) -> Bucket:
        row_n, start_n, a_n, b_n, flat_n = runs.T
        count, q = len(runs), int((b_n - a_n).max())
        at_q = np.arange(q)
        real_nq = at_q < (b_n - a_n)[:, None]
        flat_nq = np.where(real_nq, flat_n[:, None] + at_q, flat_n[:, None])
        position_nq = np.where(real_nq, a_n[:, None] + at_q, (b_n - 1)[:, None])
        full = bool(real_nq.all())
        whole = full and count * q == self.tokens and bool((np.diff(flat_nq.ravel()) == 1).all())
        retrieved_block_n, retrieved_here_n = np.zeros(count, np.int64), np.full(count, -1)
        if "pool" in self.caches:
            table, size = self._tables["pool"], self.metadata["pool"].block_size
            later = start_n > 0
            retrieved_block_n[later] = table[row_n[later], (start_n[later] - 1) // size]
            here = {(c.block, c.end): i for i, c in enumerate(self.closings)}
            for i in np.flatnonzero(later) if here else ():
                retrieved_here_n[i] = here.get((int(retrieved_block_n[i]), int(start_n[i])), -1)
        bucket = Bucket(
            count,
            q,
            self._tensor(flat_nq),
            whole,
            None if full else self._tensor(np.flatnonzero(real_nq.ravel())),
            self._tensor(flat_nq[real_nq]),
            self._tensor(row_n),
            retrieved_block_n,
            retrieved_here_n,
            self._tensor(retrieved_block_n),
            self._tensor(retrieved_here_n),
        )
        for kind in self.caches:
            if kind != "queries":
                bucket.keys[kind] = self._keys(kind, row_n, start_n, b_n, position_nq)
        return bucket

    def _keys(self, kind: str, row_n: Array, start_n: Array, b_n: Array, at_nq: Array) -> KeyIndex:
        A, M = self.spec.sinks, carried(self.spec, kind)
        R = self.spec.retrieval_size if kind == "pool" else 0
        table, size = self._tables[kind], self.metadata[kind].block_size
        low_n = np.maximum(A, start_n - M)
        width = max(int((b_n - low_n).max()), 0)
        sink_nA = np.broadcast_to(np.arange(A), (len(row_n), A))
        window_nw = low_n[:, None] + np.arange(width)
        # Retrieved columns get their rows later; until then they point at token 0.
        position_nW = np.concatenate((sink_nA, np.zeros((len(row_n), R), np.int64), window_nw), 1)
        valid_nW = position_nW < b_n[:, None]
        visible = (position_nW[:, None] <= at_nq[:, :, None]) & valid_nW[:, None]
        count_n, prefix_n = self._retrieved(start_n)
        if R:
            visible[:, :, A : A + R] = (np.arange(R) < count_n[:, None])[:, None]
        mask = torch.zeros(visible.shape, dtype=self.rope.dtype)
        mask.masked_fill_(torch.from_numpy(~visible), -torch.inf)
        read_nW = np.where(valid_nW, position_nW, 0)
        keys = KeyIndex(
            mask[:, None].to(self.device),
            self._tensor(table[row_n[:, None], read_nW // size].astype(np.int64)),
            self._tensor(read_nW % size),
            None,
            None,
        )
        if kind == "pool":
            sinks_n = np.minimum(A, start_n)
            at_nW = np.concatenate(
                (
                    sink_nA,
                    sinks_n[:, None] + np.arange(R),
                    (prefix_n - start_n)[:, None] + window_nw,
                ),
                1,
            )
            keys.at_nW = self._tensor(np.where(visible.any(1), at_nW, 0))
        elif A:
            prefix_n = start_n - np.maximum(np.minimum(A, start_n), start_n - M)
            prefix_n += np.minimum(A, start_n)
            inside_nA = sink_nA >= start_n[:, None]
            at_nA = np.where(inside_nA, sink_nA, (start_n - prefix_n)[:, None] + sink_nA)
            cos, sin = self.rope.at(self._tensor(at_nA))
            keys.sinks = cos[:, None], sin[:, None]
        return keys


def _runs(spans: Sequence[QuerySpan]) -> np.ndarray:
    """Spans in even runs of at most BLOCK queries, [n, 5]: row, start, a, b, flat."""
    runs = []
    for p in spans:
        count = -(-(p.b - p.a) // BLOCK)
        edges = [p.a + (p.b - p.a) * i // count for i in range(count + 1)]
        runs += [(p.row, p.start, a, b, p.flat + a - p.a) for a, b in pairwise(edges)]
    return np.array(runs, np.int64)


def _buckets(runs_n5: np.ndarray, spec: Spec) -> list[np.ndarray]:
    """Runs of like shape together, so that little of a bucket is padding.

    Single queries cost more to call for than to pad: they stay together whatever their segments'
    lengths.
    """
    count_n = runs_n5[:, 3] - runs_n5[:, 2]
    class_n = np.ceil(np.log2(count_n)).astype(np.int64)
    own_n = runs_n5[:, 3] - runs_n5[:, 1]
    buckets: list[np.ndarray] = []
    for shape in np.unique(class_n):
        chosen = np.flatnonzero(class_n == shape)
        chosen = chosen[np.argsort(own_n[chosen], kind="stable")]
        while len(chosen):
            limit = own_n[chosen[0]] * 9 // 8 + 32 if shape else own_n.max()
            end = int(np.searchsorted(own_n[chosen], limit, "right"))
            part, chosen = chosen[:end], chosen[end:]
            buckets += _cap(runs_n5[part], 1 << int(shape), int(own_n[part].max()), spec)
    return buckets


def _cap(runs_n5: np.ndarray, queries: int, own: int, spec: Spec) -> list[np.ndarray]:
    columns = own + spec.prefix_rows(1 << 62)
    size = max(1, SCORES // (max(queries, 16) * columns))
    return [runs_n5[i : i + size] for i in range(0, len(runs_n5), size)]
