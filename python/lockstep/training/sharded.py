"""Weights, gradients and moments of the layers shared out over the processes (PyTorch's FSDP2).

Each decoder layer is gathered when a pass enters it and given up when it leaves, so a process holds
1/N of the layers and one layer whole. The operator calls the transformers body, not the whole
module, and uses the head's weight on its own: embeddings, last norm and head stay whole in every
process, and their gradients are summed as without sharding.

Gathering is a collective of all processes, so all must make the same passes in the same order:
`tbptt.backward(passes=...)` and validation.py see to that where documents have different lengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lockstep.training.distributed import Ranks


def shard(module: Any, ranks: Ranks, device: str) -> None:
    """Share out the layers of a transformers causal language model, in place."""
    mesh = init_device_mesh(device.split(":")[0], (ranks.world_size,))
    body = module.model
    for layer in body.layers:
        _sum(fully_shard(layer, mesh=mesh))
    inside = {id(p) for layer in body.layers for p in layer.parameters()}
    whole = {p for p in body.parameters() if id(p) not in inside}
    # A root without weights of its own: it starts a pass, and lets layers be fetched ahead.
    _sum(fully_shard(body, mesh=mesh, ignored_params=whole))


def _sum(part: Any) -> None:
    # The loss is divided by the step's global count of targets: gradients are added, not averaged.
    part.set_gradient_divide_factor(1.0)
    # Otherwise a factor in float32 takes an operation that gloo does not have.
    part.set_force_sum_reduction_for_comms(True)


def is_shard(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def full_tensor(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of one that is shared out: a collective of all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, parameter: Tensor) -> Tensor:
    """``value``, whole in every process, laid out as ``parameter`` is."""
    if not isinstance(parameter, DTensor):
        return value.to(parameter.device)
    place = value.to(parameter.device)
    return distribute_tensor(place, parameter.device_mesh, parameter.placements)


def clip(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Norm of the gradient over all processes; scales it down to ``largest``.

    For gradients of which some are shared out and the others are the same in every process.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    local = [g.to_local() for g in grads if isinstance(g, DTensor)]
    same = [g for g in grads if not isinstance(g, DTensor)]
    square = torch.zeros((), dtype=torch.float64)
    for g in local:
        square += torch.linalg.vector_norm(g, dtype=torch.float64).cpu() ** 2
    dist.all_reduce(square)
    for g in same:
        square += torch.linalg.vector_norm(g, dtype=torch.float64).cpu() ** 2
    norm = float(square.sqrt())
    if norm > largest:
        for g in (*local, *same):
            g.mul_(largest / (norm + 1e-6))
    return norm
