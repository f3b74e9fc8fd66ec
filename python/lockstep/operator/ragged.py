"""Heads of one group whose prefixes differ in length: some took the pool's shorter last block.

Their rows are kept in one tensor, those of the shorter heads behind rows that nothing may see. The
unused rows stand first, so all others keep the positions that SEMANTICS.md 3 gives them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .attention import attend
from .kv_buffer import join


class Ragged:
    """Which heads of a group have ``missing`` rows fewer than the others."""

    def __init__(self, missing: int, short_H: Tensor):
        self.missing, self.short_H = missing, short_H
        long_h, short_h = (~short_H).nonzero()[:, 0], short_H.nonzero()[:, 0]
        self._parts = (long_h, 0), (short_h, missing)
        self._restore_H = torch.cat((long_h, short_h)).argsort()

    @classmethod
    def of(cls, positions_HR: Tensor) -> Ragged | None:
        """From retrieved positions, where -1 fills the front of a shorter head's.

        Returns None if all heads have equally many.

        Raises ValueError where more than two lengths occur.
        """
        missing_H = (positions_HR < 0).sum(-1)
        if not missing_H.numel() or not (most := int(missing_H.max())):
            return None
        if not bool(((missing_H == 0) | (missing_H == most)).all()):
            raise ValueError("more than two lengths")
        return cls(most, missing_H > 0)

    def join(self, sinks: Tensor, retrieved: Tensor, carry: Tensor) -> Tensor:
        """The prefix [H, p, D], unused rows first."""
        m = self.missing
        late = join([retrieved[:, :m], sinks, retrieved[:, m:], carry])
        return torch.where(self.short_H[:, None, None], late, join([sinks, retrieved, carry]))

    def attend(self, q_HTD: Tensor, k_HND: Tensor, v_HND: Tensor, scale: float) -> Tensor:
        """`attention.attend`, in which shorter heads do not see their unused rows."""
        H, Hq, T = len(self.short_H), *q_HTD.shape[:2]
        q_HgTD = q_HTD.unflatten(0, (H, -1))
        if T == 1:
            hidden_HN = q_HTD.new_zeros(H, k_HND.shape[1])
            hidden_HN[:, : self.missing].masked_fill_(self.short_H[:, None], -torch.inf)
            out_HgTD = F.scaled_dot_product_attention(
                q_HgTD[:, None, :, 0],
                k_HND[:, None],
                v_HND[:, None],
                attn_mask=hidden_HN[:, None, None],
                scale=scale,
            )
            return out_HgTD.reshape(Hq, T, -1)
        outs = [
            attend(q_HgTD[h].flatten(0, 1), k_HND[h, skip:], v_HND[h, skip:], scale)
            for h, skip in self._parts
        ]
        return torch.cat(outs).unflatten(0, (H, -1))[self._restore_H].flatten(0, 1)
