"""Several processes that train one model: who has which sequences, and when gradients meet.

Every process (rank) runs its share of an optimizer step's sequences on its own, segment by
segment, and each parameter's gradient is summed over the ranks once, after the step's last backward
pass, in buckets of a fixed order. Hooks that reduce during the backward pass, as in
DistributedDataParallel, do not fit the truncated objective: it makes several partial backward
passes a segment, so a parameter has no single moment when its gradient is ready, and ranks whose
documents have different numbers of segments would wait for each other within a step, or for ever.
So they meet at fixed places alone: the count of targets, the gradients, and what rank 0 decides at
the end of a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lockstep.errors import LockstepError

BUCKET = 1 << 24  # elements summed at once
#: A rank that says nothing for so long is taken for dead (rank 0 may have gigabytes to tokenize);
#: one whose process has ended is noticed at once.
TIMEOUT = timedelta(hours=12)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Ranks:
    """One process of a training. With ``world_size`` 1 each method is the identity."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """True in the one process that writes, scores and reports."""
        return self.rank == 0

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """The values of rank 0 in every rank."""
        return self._collective(values, lambda x: dist.broadcast(x, 0))

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, in float64."""
        return self._collective(values, dist.all_reduce)

    def all_reduce_max(self, values: Sequence[int]) -> list[int]:
        """Largest values over the ranks."""
        found = self._collective(values, lambda x: dist.all_reduce(x, dist.ReduceOp.MAX))
        return [int(x) for x in found]

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over the ranks; one that is missing counts as zeros."""
        if self.world_size == 1:
            return
        for bucket in _buckets(list(parameters)):
            flat = torch.cat([_gradient(p).reshape(-1) for p in bucket])
            _guarded(dist.all_reduce, flat)
            for p, part in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                p.grad = part.view_as(p)

    def _collective(self, values: Sequence[float], how: Callable[[Tensor], object]) -> list[float]:
        if self.world_size == 1:
            return list(values)
        both = torch.tensor(values, dtype=torch.float64)
        _guarded(how, both)
        return both.tolist()


def init_process_group(device: str) -> Ranks:
    """Join the processes that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe (as torchrun
    sets them); alone where there is no RANK."""
    if "RANK" not in os.environ:
        return Ranks()
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    # Counts and decisions travel as CPU tensors; gradients on the device that holds them.
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    _guarded(dist.init_process_group, backend, timeout=TIMEOUT)
    return ranks


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Runs of parameters of one dtype with about `BUCKET` elements."""
    bucket: list[nn.Parameter] = []
    for parameter in parameters:
        full = sum(p.numel() for p in bucket) + parameter.numel() > BUCKET
        if bucket and (full or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(parameter)
    if bucket:
        yield bucket


def _guarded(collective: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return collective(*args, **kwargs)
    except RuntimeError as error:
        raise lost(str(error).splitlines()[0]) from error


def lost(why: str) -> LockstepError:
    """LS_TRAIN_RANK: another process of the training is gone."""
    return LockstepError(
        "LS_TRAIN_RANK",
        f"expected every process of the training to keep running, got one that ended ({why})",
        "Look at the first error above this one; continue with --resume.",
    )
