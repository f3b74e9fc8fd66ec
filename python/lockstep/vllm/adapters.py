"""Adapters (LoRA) on a segmented model: vLLM's own, with what a contract and its heads need.

vLLM puts layers of its own around the projections; they hold A and B of several adapters, and each
token of a batch gets its request's. Ours is that an adapter loads only where it belongs to the
contract and to these weights, that all of its matrices are used, that its heads are permuted as the
base's are (model.py), and how the CPU multiplies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager
from vllm.v1.worker import lora_model_runner_mixin

from ..errors import LockstepError
from ..operator.batch_invariant import TILE
from ..weights import adapter

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest


def install() -> None:
    """Let this process's model runner load adapters by `AdapterManager`; idempotent."""
    name = "LRUCacheWorkerLoRAManager"
    assert hasattr(lora_model_runner_mixin, name), "vLLM makes its LoRA manager elsewhere"
    setattr(lora_model_runner_mixin, name, AdapterManager)


class AdapterManager(LRUCacheWorkerLoRAManager):
    """A worker's adapters. The model it is given is a segmented one (model.py)."""

    def create_lora_manager(self, model: Any, vllm_config: Any) -> Any:
        made = super().create_lora_manager(model, vllm_config)
        _multiply_by_runs(self._adapter_manager, self.max_num_seqs, model.segments.exact)
        return made

    def _load_adapter(self, lora_request: LoRARequest) -> Any:
        """Raises ``LS_ADAPTER_*`` for one that does not belong to the served checkpoint."""
        manager: Any = self._adapter_manager
        found = adapter.read(lora_request.lora_path)
        adapter.check(found, manager.model.contract.document)
        lora = super()._load_adapter(lora_request)
        packed = manager.packed_modules
        places = {name for name in manager.modules if name not in packed}
        places.update(name for names in packed.values() for name in names)
        unused = sorted(set(found.modules) - (places & lora.loras.keys()))
        if unused or len(lora.loras) != len(found.modules):
            raise LockstepError(
                "LS_ADAPTER_TENSORS",
                f"expected vLLM to use every matrix of the adapter {found.folder}, got no use for "
                f"those of {unused[0] if unused else 'some modules'}",
                "Start vLLM without --lora-target-modules.",
            )
        for name, layer in lora.loras.items():
            layer.lora_a, layer.lora_b = adapted(
                manager.model.permuted, name, layer.lora_a, layer.lora_b
            )
        return lora


# Products on the CPU


def _multiply_by_runs(manager: Any, max_batches: int, exact: str | None) -> None:
    """Put `RunsWrapper` in the place of vLLM's wrapper for the CPU; leave any other."""
    for key, plain in manager.punica_wrapper_mapping.items():
        if type(plain) is not PunicaWrapperCPU:
            continue
        size = len(plain._token_lora_indices)
        ours = RunsWrapper(size, max_batches, plain.device)
        manager.punica_wrapper_mapping[key] = ours
        for name, module in manager.modules.items():
            module.set_mapping(ExactRows(ours) if name == exact else ours)


class RunsWrapper(PunicaWrapperCPU):
    """Multiplies the tokens of one adapter at once.

    vLLM's own copies A and B for every single token, and takes the index of a token without an
    adapter, -1, for the last slot: where that holds an adapter, the token would get it.
    """

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.tile = 1
        self._runs: list[tuple[slice, int]] = []

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        assert self.is_prefill, "vLLM asks for the other kernels"
        starts, lengths, slots = (part.tolist() for part in self.prefill_metadata[:3])
        spans = zip(starts, lengths, slots, strict=True)
        self._runs = [(slice(at, at + n), slot) for at, n, slot in spans if slot >= 0]

    def _shrink_prefill(self, y: Tensor, x: Tensor, w_t_all: Tensor, scale: float) -> None:
        for rows, slot in self._runs:
            y[rows] = scale * self._product(x[rows], w_t_all[slot, 0], y)

    def _expand_prefill(self, y: Tensor, x: Tensor, w_t_all: Tensor, add_inputs: bool) -> None:
        self._expand_slice_prefill(y, x, w_t_all, 0, w_t_all.shape[-2], add_inputs)

    def _expand_slice_prefill(
        self,
        y: Tensor,
        x: Tensor,
        w_t_all: Tensor,
        y_offset: int,
        y_slice_size: int,
        add_inputs: bool,
    ) -> None:
        assert add_inputs, "no layer of a segmented model overwrites"
        columns = slice(y_offset, y_offset + y_slice_size)
        for rows, slot in self._runs:
            y[rows, columns] += self._product(x[rows], w_t_all[slot, 0], y)

    def _product(self, x: Tensor, weight: Tensor, like: Tensor) -> Tensor:
        padded = F.pad(x.to(like.dtype), (0, 0, 0, -len(x) % self.tile))
        return F.linear(padded, weight.to(like.dtype))[: len(x)]


class ExactRows:
    """A `RunsWrapper` for a projection whose rows must not depend on how many there are."""

    def __init__(self, wrapper: RunsWrapper):
        self._wrapper = wrapper

    def add_lora_linear(self, *args: Any, **kwargs: Any) -> Any:
        self._wrapper.tile = TILE
        try:
            return self._wrapper.add_lora_linear(*args, **kwargs)
        finally:
            self._wrapper.tile = 1


# Heads


def adapted(
    permute: Callable[[str, Tensor], Tensor], name: str, lora_a: Tensor, lora_b: Tensor
) -> tuple[Tensor, Tensor]:
    """A [r, in] and B [out, r] of a projection for a base whose heads were permuted.

    ``permute(name, weight)`` is what the base's weights went through. W + BA with permuted rows is
    permuted B: of queries, keys and values. With permuted columns it is permuted A: of the output
    projection.
    """
    if name.endswith(".o_proj"):
        return permute(f"{name}.weight", lora_a), lora_b
    return lora_a, permute(f"{name}.weight", lora_b)
