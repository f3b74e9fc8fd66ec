"""Segmented{Llama,Mistral,Qwen2,Qwen3}ForCausalLM: upstream's classes, their attention swapped."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_world_size
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.models.utils import extract_layer_index

from ..contract.model_type import plain_type
from ..contract.reader import Contract
from ..contract.spec import Spec
from ..operator.rope import Rope
from . import BASES
from .attention import Raw, SegmentedAttention
from .batch_invariant import exact_rows
from .caches import long_heads_of, make_caches, name_of
from .checks import check
from .state import SegmentedState
from .versions import check_version
from .weight_coverage import WeightCoverage

# vLLM imports this module to look at a class, before any configuration exists to be checked.
check_version()
_PROJECTION = re.compile(r"\blayers\.(\d+)\.self_attn\.([qkvo])_proj\.(weight|bias)$")


def segmented(base: type[nn.Module]) -> type[nn.Module]:
    """``base`` as a class that runs a checkpoint under its contract, or refuses to be made."""

    class Segmented(base):  # type: ignore[valid-type, misc]
        # Adapters of projections alone: neither the embedding nor the output head has one.
        embedding_modules: ClassVar[dict[str, str]] = {}

        def __init__(self, *, vllm_config: VllmConfig, prefix: str = "", **kwargs: Any):
            contract: Contract = check(vllm_config)
            with _default_rotation(vllm_config.model_config.hf_config):
                super().__init__(vllm_config=vllm_config, prefix=prefix, **kwargs)
            self.contract = contract
            self.segments = _install(self, contract, vllm_config)
            shape = vllm_config.model_config.hf_config
            ranks = get_tensor_model_parallel_world_size()
            self._orders = [
                head_order(heads, shape.num_key_value_heads, ranks)
                for heads in self.segments.spec.long_heads
            ]
            self._group = shape.num_attention_heads // shape.num_key_value_heads
            if vllm_config.lora_config is not None:
                importlib.import_module("lockstep.vllm.adapters").install()

        def forward(self, input_ids: Tensor | None, *args: Any, **kwargs: Any) -> Any:
            self.segments.begin(input_ids)
            hidden = super().forward(input_ids, *args, **kwargs)
            self.segments.ran(hidden)
            return hidden

        def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
            ours = ((name, self.permuted(name, weight)) for name, weight in weights)
            with WeightCoverage(self) as coverage:
                loaded = super().load_weights(coverage.handed(ours))
            coverage.check()
            return loaded

        def permuted(self, name: str, weight: Tensor) -> Tensor:
            """A weight of the checkpoint with its heads in the order they are stored in."""
            return permuted(name, weight, self._orders, self._group)

    Segmented.__name__ = Segmented.__qualname__ = f"Segmented{base.__name__}"
    Segmented.__module__ = __name__
    return Segmented


def head_order(long: Sequence[int], kv_heads: int, ranks: int) -> list[int]:
    """KV heads as they are stored: rank after rank, each its local heads, then its long ones."""
    local = [h for h in range(kv_heads) if h not in long]
    a, b = len(local) // ranks, len(long) // ranks
    return [
        head
        for rank in range(ranks)
        for head in (*local[rank * a : (rank + 1) * a], *long[rank * b : (rank + 1) * b])
    ]


def permuted(name: str, weight: Tensor, orders: Sequence[Sequence[int]], group: int) -> Tensor:
    """An attention projection with its heads in the order they are stored in; others as they are.

    Queries, keys and values are rows of their weights, the output projection's heads its columns.
    """
    found = _PROJECTION.search(name)
    if found is None:
        return weight
    layer, projection, part = int(found[1]), found[2], found[3]
    order = list(orders[layer])
    if order == sorted(order) or (projection == "o" and part == "bias"):
        return weight
    dim = 1 if projection == "o" else 0
    each = 1 if projection in "kv" else group
    heads = torch.tensor([head * each + i for head in order for i in range(each)])
    return weight.unflatten(dim, (len(heads), -1)).index_select(dim, heads).flatten(dim, dim + 1)


def _install(model: nn.Module, contract: Contract, config: VllmConfig) -> SegmentedState:
    """Swap attention and rotary embedding of every layer; register the caches."""
    shape, ranks = config.model_config.hf_config, get_tensor_model_parallel_world_size()
    spec = Spec.from_contract(contract)
    spec.check(shape.num_hidden_layers, shape.num_key_value_heads)
    layers = config.compilation_config.static_forward_context
    owners: list[Any] = [
        m for m in model.modules() if isinstance(getattr(m, "attn", None), Attention)
    ]
    first = owners[0].attn
    long_heads = long_heads_of(spec, ranks)
    group = first.num_heads // first.num_kv_heads
    caches = make_caches(spec, long_heads, first.num_kv_heads, group, first.head_size, config)
    weight = next(model.parameters())
    rope = _rope(shape, config.model_config.dtype, weight.device)
    state = SegmentedState(contract, spec, rope, caches)
    for owner in owners:
        stock = owner.attn
        layer = extract_layer_index(stock.layer_name)
        del layers[stock.layer_name]
        owner.attn = SegmentedAttention(
            stock.layer_name,
            layer,
            state,
            stock.num_heads,
            stock.num_kv_heads,
            long_heads[layer],
            stock.head_size,
            stock.impl.scale,
        )
        layers[stock.layer_name] = owner.attn
        owner.rotary_emb = Raw()
        if layer == 0 and owner.attn.pooled:
            exact_rows(owner.qkv_proj)
            state.exact = f"{stock.layer_name.rpartition('.')[0]}.qkv_proj"
    for kind, cache in caches.items():
        layers[name_of(kind)] = cache
    return state


@contextmanager
def _default_rotation(shape: Any) -> Iterator[None]:
    """Meanwhile the configuration has no RoPE scaling.

    Upstream's rotary embeddings are thrown away, and some cannot even be made: a linear factor that
    JSON holds as an integer stops vLLM 0.32.
    """
    scaled = shape.rope_parameters
    shape.rope_parameters = {"rope_type": "default", "rope_theta": scaled["rope_theta"]}
    try:
        yield
    finally:
        shape.rope_parameters = scaled


def _rope(shape: Any, dtype: torch.dtype, device: torch.device) -> Rope:
    """Our own tables, from the frequencies that transformers derives from the configuration."""
    family = plain_type(shape.model_type)
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    kind = next(base for base, own in BASES.items() if own == family).removesuffix("ForCausalLM")
    with torch.device("cpu"):
        rotary = getattr(module, f"{kind}RotaryEmbedding")(shape)
        return Rope.of(rotary, shape, dtype, device)


def __getattr__(name: str) -> Any:
    base = name.removeprefix("Segmented")
    if base == name or base not in BASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"vllm.model_executor.models.{BASES[base]}")
    made = globals()[name] = segmented(getattr(module, base))
    return made
