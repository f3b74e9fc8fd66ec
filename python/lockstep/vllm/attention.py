"""Attention of one decoder layer over paged head groups (SEMANTICS.md 2 to 4), in batches.

Stands where upstream's `Attention` stood and gets raw queries and keys: upstream's rotary embedding
is the identity here. Heads were permuted when the weights were loaded, local heads first, so every
head group is a slice. vLLM compiles around one opaque operator a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from vllm.forward_context import get_forward_context
from vllm.utils.torch_utils import direct_register_custom_op

from .. import retrieval
from ..contract.spec import Spec
from ..operator.rope import rotate
from .retrieved_rows import RetrievedRows, in_tokens
from .step import Bucket, SegmentEnd, SegmentMetadata

if TYPE_CHECKING:
    from .state import SegmentedState


class Raw(nn.Module):
    """In place of a layer's rotary embedding: queries and keys go on unrotated."""

    def forward(self, positions: Tensor, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        return query, key


class SegmentedAttention(nn.Module):
    """forward(q, k, v) of one layer: [T, heads * D] each, on this rank's heads."""

    def __init__(
        self,
        name: str,
        layer: int,
        state: SegmentedState,
        q_heads: int,
        kv_heads: int,
        long_heads: int,
        head_dim: int,
        scale: float,
    ):
        super().__init__()
        self.name, self.layer, self.scale, self.head_dim = name, layer, scale, head_dim
        self.q_heads, self.kv_heads, self.group = q_heads, kv_heads, q_heads // kv_heads
        self.local, self.long = kv_heads - long_heads, long_heads
        spec = state.spec
        self.pooled = spec.pooled(layer)
        self._state = (state,)  # a tuple: not a submodule
        self._retrieved: RetrievedRows | None = None

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        torch.ops.vllm.lockstep_attention(q, k, v, out, self.name)
        return out

    def attend(self, q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
        """The operator's body; rows beyond the step's tokens are padding."""
        step = self._state[0].step
        if step is None:  # a profiling run: shapes matter, numbers do not
            out.zero_()
            return
        T, D = step.tokens, self.head_dim
        q_TC, k_TC, v_THD = q[:T], k[:T], v[:T].view(T, self.kv_heads, D)
        out_THD = out.view(-1, self.q_heads, D)
        if len(out) > T:
            out_THD[T:] = 0
        stored = self.kv_heads if not self.pooled else self.local
        if stored:
            kr_TC = step.own(k_TC[:, : stored * D].clone())
            if step.raw_t is not None:
                kr_TC[step.raw_t] = k_TC[step.raw_t, : stored * D]
            kr_THD = kr_TC.view(T, stored, D)
            qr_THD = step.own(q_TC[:, : stored * self.group * D].clone()).view(T, -1, D)
            if self.local:
                self._windowed("local", 0, self.local, step, qr_THD, kr_THD, v_THD, out_THD)
            if stored > self.local:
                self._windowed("bare", self.local, stored, step, qr_THD, kr_THD, v_THD, out_THD)
        if self.pooled:
            q_THD, k_THD = q_TC.view(T, self.q_heads, D), k_TC.view(T, self.kv_heads, D)
            long, q_long = slice(self.local, self.kv_heads), q_THD[:, self.local * self.group :]
            self._retrieving(step, q_long, k_THD[:, long], v_THD[:, long], out_THD)

    def _write(self, step: SegmentMetadata, kind: str, rows_TRC: Tensor) -> None:
        heads = rows_TRC.shape[1]
        cache = step.caches[kind]
        index = step.write_rows(kind, heads)
        cache.rows(self.layer).index_copy_(0, index, rows_TRC.reshape(-1, cache.width))

    def _windowed(
        self,
        kind: str,
        first: int,
        end: int,
        step: SegmentMetadata,
        q_THD: Tensor,
        k_THD: Tensor,
        v_THD: Tensor,
        out_THD: Tensor,
    ) -> None:
        """Heads [first, end), whose keys lie rotated in a window."""
        self._write(step, kind, torch.cat((k_THD[:, first:end], v_THD[:, first:end]), -1))
        cache, heads = step.caches[kind], end - first
        q_heads = slice(first * self.group, end * self.group)
        for bucket in step.buckets:
            keys = bucket.keys[kind]
            rows = cache.rows(self.layer).index_select(0, step.key_rows(bucket, kind, heads))
            kv = rows.view(bucket.count, heads, -1, cache.width)
            k_nHWD, v_nHWD = kv.split(self.head_dim, -1)
            if keys.sinks is not None:
                A = step.spec.sinks
                k_nHWD[:, :, :A] = rotate(k_nHWD[:, :, :A], *keys.sinks)
            mask = keys.mask_of(self.group)
            self._attend(bucket, mask, q_THD[:, q_heads], k_nHWD, v_nHWD, out_THD[:, q_heads])

    def _retrieving(
        self, step: SegmentMetadata, q_THD: Tensor, k_THD: Tensor, v_THD: Tensor, out_THD: Tensor
    ) -> None:
        """Long heads with a pool: raw keys, rotated as they are read."""
        cache, heads = step.caches["pool"], self.long
        self._write(step, "pool", torch.cat((k_THD, v_THD), -1))
        if "queries" in step.caches:
            self._write(step, "queries", self._kept_queries(step.spec, q_THD))
        A, R = step.spec.sinks, step.spec.retrieval_size
        retrieved = self._retrieved
        if retrieved is None or retrieved.blocks != cache.blocks:
            retrieved = self._retrieved = RetrievedRows(
                cache.blocks, heads, step.spec, q_THD.device
            )
        here = [self._select(step, closing, q_THD) for closing in step.closings]
        observer = self._state[0].observer
        if observer is not None:
            here = [
                observer.replace_retrieved(self.layer, closing, positions_HR)
                for closing, positions_HR in zip(step.closings, here, strict=True)
            ]
        assert step.relative is not None
        qr_THD = step.relative(q_THD.flatten(1).clone()).view(q_THD.shape)
        q_heads = slice(self.local * self.group, self.q_heads)
        for bucket in step.buckets:
            keys = bucket.keys["pool"]
            retrieved_nHR, uneven = retrieved.seen(bucket, here)
            index = step.key_rows(bucket, "pool", heads).view(bucket.count, heads, -1).clone()
            at_nHR = retrieved_nHR.clamp_min(0).long()
            index[:, :, A : A + R] = self._rows_of(step, "pool", bucket.row_n, at_nHR)
            rows = cache.rows(self.layer).index_select(0, index.flatten())
            mask, turn = keys.mask_of(self.group), step.key_turn(keys, heads)
            if uneven:
                absent_nHR = retrieved_nHR < 0
                mask = keys.uneven_mask(self.group, absent_nHR, A)
                turn = step.uneven_turn(keys, absent_nHR)
            turn(rows[:, : self.head_dim])
            kv = rows.view(bucket.count, heads, -1, cache.width)
            k_nHWD, v_nHWD = kv.split(self.head_dim, -1)
            self._attend(bucket, mask, qr_THD, k_nHWD, v_nHWD, out_THD[:, q_heads])
        retrieved.keep(step.closings, here)

    def _kept_queries(self, spec: Spec, q_THD: Tensor) -> Tensor:
        """What the recipe keeps of raw queries [T, H * g, D], by KV head: group means [T, H, D]
        for `anchors`, for `blocks` the queries themselves [T, H, g * D]."""
        q_THgD = q_THD.unflatten(1, (self.long, self.group))
        if spec.recipe == "blocks":
            return q_THgD.flatten(2)
        return retrieval.group_mean(q_THgD.permute(1, 2, 0, 3)).transpose(0, 1)

    def _rows_of(
        self, step: SegmentMetadata, kind: str, row_n: Tensor, position_nHR: Tensor
    ) -> Tensor:
        """Rows [n, heads, R] of token positions [n, H, R]; H is 1 where all heads share them."""
        metadata, cache = step.metadata[kind], step.caches[kind]
        size, heads = metadata.block_size, cache.heads[self.layer]
        block = metadata.block_table[row_n[:, None, None], position_nHR // size].long()
        head = torch.arange(heads, device=position_nHR.device)
        return cache.index(block, position_nHR % size, heads) + head[:, None]

    def _select(self, step: SegmentMetadata, closing: SegmentEnd, q_THD: Tensor) -> Tensor:
        """Token positions retrieved at a boundary, int32 [H, R], as `RetrievedRows` keeps them."""
        spec, heads, device = step.spec, self.long, q_THD.device
        first = min(spec.sinks, closing.end)
        positions = torch.zeros(heads, spec.retrieval_size, dtype=torch.int32, device=device)
        eligible = spec.eligible_at(closing.end)
        at_N = torch.arange(first, first + eligible, device=device)
        count = min(spec.retrieval_size, eligible)
        if count == eligible:  # all that may be retrieved
            positions[:, :count] = at_N
            return positions
        row = torch.tensor([closing.row], device=device)
        keys_HND = self._read(step, "pool", row, at_N, self.head_dim)
        queries = self._queries(step, closing, row, q_THD)
        retrieved_Hr = retrieval.select(
            queries, keys_HND, spec.retrieval_size, spec.recipe, spec.block
        )
        positions[:, :count] = in_tokens(retrieved_Hr, first, count)
        return positions

    def _queries(
        self, step: SegmentMetadata, closing: SegmentEnd, row_1: Tensor, q_THD: Tensor
    ) -> Tensor:
        """What `retrieval.select` takes at a boundary: means [H, Q, D], or [H, g, Q, D]."""
        spec = step.spec
        if spec.recipe == "topk":
            last_THD = q_THD[closing.flat : closing.flat + 1]
            return self._kept_queries(spec, last_THD).transpose(0, 1)
        recent = retrieval.recent(spec.recipe, spec.window)
        at_Q = torch.arange(
            max(closing.start, closing.end - recent), closing.end, device=q_THD.device
        )
        queries_HQC = self._read(step, "queries", row_1, at_Q)
        if spec.recipe != "blocks":
            return queries_HQC
        queries_HgQD = queries_HQC.unflatten(2, (self.group, -1)).transpose(1, 2)
        return retrieval.at_distance(queries_HgQD, step.rope, spec.distance, self.scale)

    def _read(
        self, step: SegmentMetadata, kind: str, row_1: Tensor, position_N: Tensor, width: int = 0
    ) -> Tensor:
        """Rows [H, N, width] of tokens of one request, for all heads of this layer; the first
        ``width`` numbers of them where it is named, which divides the rows."""
        cache = step.caches[kind]
        width = width or cache.width
        index = self._rows_of(step, kind, row_1, position_N[None, None])
        parts = cache.rows(self.layer).view(-1, width)
        rows = parts.index_select(0, index.flatten() * (cache.width // width))
        return rows.view(cache.heads[self.layer], -1, width)

    def _attend(
        self,
        bucket: Bucket,
        mask: Tensor,
        q_THD: Tensor,
        k_nHWD: Tensor,
        v_nHWD: Tensor,
        out_THD: Tensor,
    ) -> None:
        """The query heads of a group are more queries of its KV head: keys are read once."""
        n, group = bucket.count, self.group
        q = q_THD if bucket.whole else q_THD[bucket.flat_nq.flatten()]
        q_nqHgD = q.view(n, bucket.queries, -1, group, self.head_dim)
        o_nHQD = F.scaled_dot_product_attention(
            q_nqHgD.permute(0, 2, 3, 1, 4).flatten(2, 3),
            k_nHWD,
            v_nHWD,
            attn_mask=mask,
            scale=self.scale,
        )
        o_nqHgD = o_nHQD.unflatten(2, (group, bucket.queries)).permute(0, 3, 1, 2, 4)
        o_THD = o_nqHgD.flatten(2, 3).flatten(0, 1)
        if bucket.whole:
            out_THD[: len(o_THD)] = o_THD
        else:
            out_THD[bucket.target] = o_THD if bucket.kept is None else o_THD[bucket.kept]


def _attention(q: Tensor, k: Tensor, v: Tensor, out: Tensor, name: str) -> None:
    get_forward_context().no_compile_layers[name].attend(q, k, v, out)


def _attention_fake(q: Tensor, k: Tensor, v: Tensor, out: Tensor, name: str) -> None:
    return


direct_register_custom_op(
    op_name="lockstep_attention",
    op_func=_attention,
    mutates_args=["out"],
    fake_impl=_attention_fake,
)
