"""How one forward pass of the transformers model maps onto segments: step, parallel, training.

Tokens of one pass are packed along T without padding; a `PackedSpan` is a run of them in one
segment.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract.spec import Spec
from .head_groups import HeadGroups
from .rope import Rope, rotate
from .state import Boundary, GroupState, State


@dataclass(frozen=True)
class PackedSpan:
    """Tokens [offset, offset + length) of the pack: a segment that starts at token ``start``."""

    offset: int
    length: int
    start: int


def packed_spans(length: int, boundaries: Sequence[int], offset: int = 0) -> list[PackedSpan]:
    """The segments of a sequence of ``length`` tokens that stands at ``offset`` of a pack."""
    edges = [0, *(e for e in boundaries if e < length), length]
    return [PackedSpan(offset + s, e - s, s) for s, e in itertools.pairwise(edges) if e > s]


class StepContext:
    """More tokens of the open segment of one state."""

    def __init__(self, layout: HeadGroups, rope: Rope, state: State, length: int):
        self._layout, self._rope, self._state = layout, rope, state
        self._base = state.spec.prefix_rows(state.start)
        at = self._base + state.open_length
        self._cos_TD, self._sin_TD = rope.rows(at, at + length)

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        qr_HTD = rotate(q_HTD, self._cos_TD, self._sin_TD)
        kr_HTD = rotate(k_HTD, self._cos_TD, self._sin_TD)
        parts = []
        for state in self._state.layers[layer]:
            q, kv = state.group.q_index, state.group.kv_index
            state.record_queries(q_HTD[q], self._rope, scale)
            parts.append(
                state.attend_append(
                    qr_HTD[q],
                    k_HTD[kv],
                    kr_HTD[kv],
                    v_HTD[kv],
                    self._rope,
                    self._base,
                    self._state.start,
                    scale,
                )
            )
        return self._layout.merge(layer, parts)


class StepsContext:
    """More tokens of the open segments of several states, packed one behind the other."""

    def __init__(self, parts: Sequence[tuple[StepContext, int]]):
        """``parts``: each state's context, and how many tokens of it the pack holds."""
        edges = itertools.pairwise(itertools.accumulate((n for _, n in parts), initial=0))
        self._parts = [(one, slice(*e)) for (one, _), e in zip(parts, edges, strict=True)]

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        outs = [
            one.attend(layer, q_HTD[:, own], k_HTD[:, own], v_HTD[:, own], scale)
            for one, own in self._parts
        ]
        return outs[0] if len(outs) == 1 else torch.cat(outs, 1)


class _Packed:
    """Rotation of a pack: every span's own tokens start at one common base position."""

    def __init__(self, layout: HeadGroups, spec: Spec, rope: Rope, spans: Sequence[PackedSpan]):
        self._layout, self._spec, self._rope = layout, spec, rope
        self._base = max(spec.prefix_rows(span.start) for span in spans)
        cos_ND, sin_ND = rope.rows(self._base, self._base + max(p.length for p in spans))
        own_T = torch.cat([torch.arange(p.length) for p in spans]).to(cos_ND.device)
        self._cos_TD, self._sin_TD = cos_ND[own_T], sin_ND[own_T]


class ParallelContext(_Packed):
    """Whole sequences, layer by layer: a layer's state runs over all segments, then is dropped.

    When ``keep`` asks for them, ``boundaries[d]`` collects what document d retrieved and
    ``pools[d]`` its pool's keys by layer.
    """

    def __init__(
        self,
        layout: HeadGroups,
        spec: Spec,
        rope: Rope,
        docs: Sequence[Sequence[PackedSpan]],
        closed: Sequence[set[int]],
        keep: bool = False,
    ):
        super().__init__(layout, spec, rope, [span for doc in docs for span in doc])
        self._docs, self._closed, self._keep = docs, closed, keep
        self.boundaries = [{e: Boundary(e) for e in sorted(ends)} for ends in closed]
        self.pools: list[dict[int, Tensor]] = [{} for _ in docs]

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        qr_HTD = rotate(q_HTD, self._cos_TD, self._sin_TD)
        kr_HTD = rotate(k_HTD, self._cos_TD, self._sin_TD)
        # [T, Hq, D] in memory: what transformers turns it into next.
        H, T, D = q_HTD.shape
        out_HTD = q_HTD.new_empty(T, H, D).transpose(0, 1)
        for d, spans in enumerate(self._docs):
            for group in self._layout.layers[layer]:
                state = GroupState(group, self._spec, k_HTD, self._layout.head_dim)
                q, kv = group.q_index, group.kv_index
                for span in spans:
                    own = slice(span.offset, span.offset + span.length)
                    out_HTD[q, own] = state.attend_append(
                        qr_HTD[q, own],
                        k_HTD[kv, own],
                        kr_HTD[kv, own],
                        v_HTD[kv, own],
                        self._rope,
                        self._base,
                        span.start,
                        scale,
                    )
                    end = span.start + span.length
                    if end in self._closed[d]:
                        state.record_queries(q_HTD[q, own], self._rope, scale)
                        retrieved = state.close(span.start)
                        if self._keep and retrieved is not None:
                            self.boundaries[d][end].add(layer, retrieved)
                if group.pooled and self._keep and self._closed[d]:
                    self.pools[d][layer] = state.pool_k.view()
        return out_HTD


class TrainContext(_Packed):
    """One whole segment of each of several documents, with autograd.

    After the pass, ``cross_boundary`` is called for every document that goes on, and ``release``
    drops the segment's keys and values. With ``recompute`` the pass can run again later: it then
    sees the prefixes that it saw first.
    """

    def __init__(
        self,
        layout: HeadGroups,
        spec: Spec,
        rope: Rope,
        spans: Sequence[PackedSpan],
        states: Sequence[State],
        recompute: bool = False,
    ):
        super().__init__(layout, spec, rope, spans)
        self._spans, self._states, self.recompute = spans, states, recompute
        # Shallow copies: they hold on to this segment's prefixes when the states have moved on.
        self._seen = [[[copy(g) for g in groups] for groups in s.layers] for s in states]
        self._replaying = False
        self._own: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def attend(
        self, layer: int, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, scale: float
    ) -> Tensor:
        qr_HTD = rotate(q_HTD, self._cos_TD, self._sin_TD)
        kr_HTD = rotate(k_HTD, self._cos_TD, self._sin_TD)
        outs = []
        for n, (span, doc) in enumerate(zip(self._spans, self._states, strict=True)):
            own = slice(span.offset, span.offset + span.length)
            if not self._replaying:
                self._own[n, layer] = k_HTD[:, own], v_HTD[:, own]
            parts = []
            for state, seen in zip(doc.layers[layer], self._seen[n][layer], strict=True):
                q, kv = state.group.q_index, state.group.kv_index
                if not self._replaying:
                    # Detached first: an index that autograd saves here is missing in a replay.
                    state.record_queries(q_HTD.detach()[q, own], self._rope, scale)
                parts.append(
                    seen.attend_segment(
                        qr_HTD[q, own],
                        kr_HTD[kv, own],
                        v_HTD[kv, own],
                        self._rope,
                        self._base,
                        scale,
                    )
                )
            outs.append(self._layout.merge(layer, parts))
        return outs[0] if len(outs) == 1 else torch.cat(outs, 1)

    def cross_boundary(self, n: int) -> None:
        """Cross the boundary after span ``n``."""
        for layer, groups in enumerate(self._states[n].layers):
            k_HTD, v_HTD = self._own[n, layer]
            for state in groups:
                kv = state.group.kv_index
                state.cross_boundary(k_HTD[kv], v_HTD[kv], self._spans[n].start)
        self._states[n].position += self._spans[n].length

    def release(self) -> None:
        """After the last boundary: a graph that may run again holds the context, not these."""
        self._own.clear()

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Meanwhile a pass records nothing: it repeats one that was made before."""
        self._replaying = True
        try:
            yield
        finally:
            self._replaying = False
