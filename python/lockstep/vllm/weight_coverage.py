"""Every tensor of a checkpoint ends in a parameter, and every parameter is filled, or no start.

Upstream's loaders skip what they have no place for: Qwen3's `o_proj.bias` goes without a word, and
a linear layer that a checkpoint leaves out keeps what its memory held. Names say little about that
(stacked projections, renamed modules, ranks that take their own rows), so the copies themselves are
watched: whatever an architecture's loader does, in the end it copies rows of a tensor that it was
handed into a parameter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import LockstepError

#: Tables that follow from config.json, which old checkpoints stored too; we compute our own.
DERIVED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


class _Ranges:
    """Names by address: a later range takes the place of those that it overlaps."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._found: list[tuple[int, str]] = []

    def put(self, tensor: Tensor, name: str) -> None:
        start = tensor.data_ptr()
        end = start + tensor.numel() * tensor.element_size()
        kept = [
            (a, b)
            for a, b in zip(self._starts, self._found, strict=True)
            if b[0] <= start or a >= end
        ]
        kept.append((start, (end, name)))
        kept.sort()
        self._starts, self._found = [a for a, _ in kept], [b for _, b in kept]

    def of(self, tensor: Tensor) -> str | None:
        at = bisect_right(self._starts, tensor.data_ptr()) - 1
        if at < 0 or tensor.data_ptr() >= self._found[at][0]:
            return None
        return self._found[at][1]


class WeightCoverage(TorchDispatchMode):
    """A context around one loading of weights; `check` says what became of each tensor.

    Each rank checks itself: a tensor is used where the rank took any rows of it.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self._model = model
        self._handed: dict[str, tuple[int, ...]] = {}
        self._sources = _Ranges()
        self._used: set[str] = set()
        self._targets = _Ranges()
        self._filled: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}
        for name, parameter in model.named_parameters():
            if parameter.numel():
                self._targets.put(parameter.data, name)
                self._filled[name] = 0

    def handed(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Pass the checkpoint's tensors on and remember them."""
        tied = getattr(getattr(self._model, "config", None), "tie_word_embeddings", False)
        for name, tensor in weights:
            self._handed[name] = tuple(tensor.shape)
            if tensor.numel():
                self._sources.put(tensor, name)
            if tied and name.endswith(("embed_tokens.weight", "lm_head.weight")):
                self._kept[name] = tensor
            yield name, tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.copy_.default:
            target, source = args[0], args[1]
            name, origin = self._targets.of(target), self._sources.of(source)
            if name is not None and origin is not None:
                self._used.add(origin)
                self._filled[name] += target.numel()
        return func(*args, **(kwargs or {}))

    def check(self) -> None:
        """Raises ``LS_VLLM_WEIGHTS``, which names the first tensor that nobody took, or the first
        parameter that was not filled."""
        unused = [name for name in self._handed if name not in self._used and not self._tied(name)]
        unused = [name for name in unused if not name.endswith(DERIVED)]
        if unused:
            raise LockstepError(
                "LS_VLLM_WEIGHTS",
                f"expected {_name(self._model)} to use every tensor of the checkpoint, got no use "
                f"for {_listed(unused)}: vLLM would compute without it",
                "Serve it with another engine (lockstep serve DIR --engine onnx or torch); "
                "lockstep verify DIR compares them",
                unused[0],
            )
        for name, count in self._filled.items():
            wanted = self._wanted(name)
            if count < wanted:
                raise LockstepError(
                    "LS_VLLM_WEIGHTS",
                    f"expected the checkpoint to fill {name} of {_name(self._model)}, got "
                    f"{count} of {wanted} numbers",
                    "The checkpoint is incomplete: copy or train it again.",
                    name,
                )
        self._kept.clear()

    def _tied(self, name: str) -> bool:
        """A second copy of the embedding, under a configuration that ties the two."""
        own = self._kept.get(name)
        return own is not None and any(
            other is not own and other.shape == own.shape and torch.equal(other, own)
            for key, other in self._kept.items()
            if key in self._used
        )

    def _wanted(self, name: str) -> int:
        """Numbers of a parameter that a checkpoint has: rows that pad the vocabulary are ours."""
        parameter = self._model.get_parameter(name)
        owner = self._model.get_submodule(name.rpartition(".")[0])
        shard = getattr(owner, "shard_indices", None)
        if shard is None:
            return parameter.numel()
        return parameter.numel() // parameter.shape[0] * shard.num_org_elements


def _name(model: nn.Module) -> str:
    return type(model).__name__.removeprefix("Segmented")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + more
