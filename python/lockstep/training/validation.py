"""The loss of held-out text, before, after and during a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from lockstep.baseline import full
from lockstep.operator.contexts import packed_spans
from lockstep.operator.model import Model
from lockstep.training.answers import Row
from lockstep.training.distributed import Ranks
from lockstep.training.preference import METRICS, Preferences


@dataclass(frozen=True)
class HeldOut:
    """Texts that are never trained on. texts: token ids of each, scored from its start, and which
    of them count (None: all).

    Several processes share the texts out; `score` is then a meeting of all of them.
    """

    texts: list[tuple[list[int], list[bool] | None]]
    ranks: Ranks
    shared_out: bool = False

    @property
    def targets(self) -> int:
        return sum(len(ids) - 1 if mask is None else sum(mask[1:]) for ids, mask in self.texts)

    def score(self, model: Model, attention: str, stop: Callable[[], bool]) -> float | None:
        """Mean -log p in nats per token; None without text, or when ``stop()`` says so."""
        if not self.targets:
            return None
        total = 0.0
        share = self.texts[self.ranks.rank :: self.ranks.world_size]
        mine = [(ids, model.plan(ids)) for ids, _ in share]
        idle = self._idle(mine, attention) if self.shared_out else 0
        for (ids, cuts), (_, mask) in zip(mine, share, strict=True):
            # Alone: processes that stop at different texts would miss each other.
            if self.ranks.world_size == 1 and stop():
                return None
            nll_T = _nll(model, ids, cuts, attention)
            if mask is not None:
                nll_T = nll_T[torch.tensor(mask[1:], device=nll_T.device)]
            total += float(nll_T.sum())
        for _ in range(idle):
            _nll(model, [0], [], attention)
        return self.ranks.all_reduce_sum([total])[0] / self.targets

    def _idle(self, texts: list[tuple[list[int], list[int]]], attention: str) -> int:
        """Passes to make beside those of ``texts``: shared out weights take all processes to as
        many. It is agreed before the first one, as a pass is itself a meeting."""
        passes = (
            sum(len(packed_spans(len(ids), cuts)) for ids, cuts in texts)
            if attention == "segmented"
            else len(texts)
        )
        return self.ranks.all_reduce_max([passes])[0] - passes


@dataclass(frozen=True)
class HeldOutRows:
    """The same for rows of two answers. objective: `Preferences`."""

    rows: list[Row]
    ranks: Ranks
    objective: Preferences

    @property
    def targets(self) -> int:
        return len(self.rows)

    def score(self, stop: Callable[[], bool]) -> dict[str, float] | None:
        """Mean loss in nats a row, and metrics; None without rows, or when ``stop()`` says so."""
        if not self.rows:
            return None
        sums = [0.0] * (1 + len(METRICS))
        for row in self.rows[self.ranks.rank :: self.ranks.world_size]:
            if self.ranks.world_size == 1 and stop():
                return None
            [one] = self.objective.losses([row])
            sums = [a + b for a, b in zip(sums, one.sums, strict=True)]
        means = [x / len(self.rows) for x in self.ranks.all_reduce_sum(sums)]
        return dict(zip(("loss", *METRICS), means, strict=True))


def _nll(model: Model, ids: list[int], cuts: list[int], attention: str) -> torch.Tensor:
    return full.nll(model, ids) if attention == "full" else model.nll(ids, cuts)
