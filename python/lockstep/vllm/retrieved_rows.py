"""What one layer's boundaries retrieved, kept as long as a segment may see it (SEMANTICS.md 4).

It hangs on the pool's block in which the segment before ended, and so lives and dies with it:
through chunked prefill, preemption and prefix-cache hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import retrieval
from ..contract.spec import Spec

if TYPE_CHECKING:
    from .step import Bucket, SegmentEnd


class RetrievedRows:
    """Token positions int32 [H, R] by pool block; spare ones point at 0.

    Heads of one segment may have different numbers of rows (`blocks`: a head that took the pool's
    shorter last block); then -1 fills the front of the shorter ones.
    """

    def __init__(self, blocks: int, heads: int, spec: Spec, device: torch.device):
        size = spec.retrieval_size
        self.blocks, self._may_be_uneven = blocks, spec.recipe == "blocks"
        self._table_bHR = torch.zeros(blocks, heads, size, dtype=torch.int32, device=device)
        # On the host: it is asked at every step, and that must not wait for a GPU.
        self._uneven_b = np.zeros(blocks, bool)

    def seen(self, bucket: Bucket, here: Sequence[Tensor]) -> tuple[Tensor, bool]:
        """What a bucket's runs see, [n, H, R], and whether -1 is among it.

        ``here``: what this step's closings retrieved.
        """
        retrieved_nHR = self._table_bHR[bucket.retrieved_block_n]
        uneven = bool(self._uneven_b[bucket.retrieved_block].any())
        if here and bool((bucket.retrieved_here >= 0).any()):
            fresh_n = bucket.retrieved_here_n
            fresh_nHR = torch.stack(list(here))[fresh_n.clamp_min(0)]
            retrieved_nHR = torch.where((fresh_n < 0)[:, None, None], retrieved_nHR, fresh_nHR)
            uneven = uneven or any(map(self._uneven, here))
        return retrieved_nHR, uneven

    def keep(self, closings: Sequence[SegmentEnd], here: Sequence[Tensor]) -> None:
        """Keep what a step's closings retrieved. Not before all buckets have seen theirs: until
        then an open segment's rows may stand in a block that one of these segments ends in."""
        kept = [i for i, closing in enumerate(closings) if closing.last]
        if not kept:
            return
        blocks = [closings[i].block for i in kept]
        rows = torch.stack([here[i] for i in kept])
        self._table_bHR[torch.tensor(blocks, device=rows.device)] = rows
        self._uneven_b[blocks] = [self._uneven(here[i]) for i in kept]

    def _uneven(self, positions_HR: Tensor) -> bool:
        return self._may_be_uneven and bool((positions_HR < 0).any())


def in_tokens(pool_Hr: Tensor, first: int, count: int) -> Tensor:
    """Pool positions as token positions int32 [H, count]; rows that all heads lack get their -1.

    ``first`` is the token of the pool's first row.
    """
    at_Hr = torch.where(pool_Hr < 0, pool_Hr, pool_Hr + first)
    return F.pad(at_Hr, (count - at_Hr.shape[1], 0), value=-1).int()


def in_pool(positions_Hc: Tensor, first: int) -> list[list[int]]:
    """Pool positions of the rows that each head has, from their token positions."""
    return retrieval.listed(torch.where(positions_Hc < 0, positions_Hc, positions_Hc - first))
