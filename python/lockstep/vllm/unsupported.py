"""Settings of vLLM that a segmented model is not served under, each with what to do instead.

Each of them changes what is computed, or was not shown to leave it alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .versions import runner_of

SCHEDULER = "lockstep.vllm.scheduler.SegmentScheduler"
#: Compared with the trainer's operator in the same precision: test/vllm/test_parity.py.
_DTYPES = ("torch.float32", "torch.bfloat16")
#: vLLM's switch for routes that load and unload adapters.
RUNTIME_ADAPTERS = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"


@dataclass(frozen=True)
class Refused:
    """A setting and what to do instead. ``wrong`` returns its value where it is refused, or None.

    what: the value that it must have, or the name of the feature that it turns on.
    """

    field: str
    what: str
    fix: str
    wrong: Callable[[Any], Any]

    def message(self, got: str) -> str:
        raise NotImplementedError


class RefusedValue(Refused):
    """A setting that must have a certain value."""

    def message(self, got: str) -> str:
        return f"expected {self.field} to be {self.what}, got {got}"


class RefusedFeature(Refused):
    """A feature that must be off."""

    def message(self, got: str) -> str:
        return f"{self.what} ({self.field}) is not supported with segments"


def _unless(value: Any, *fine: Any) -> Any:
    return None if value in fine else value


def _dtype(config: Any) -> Any:
    return _unless(str(config.model_config.dtype), *_DTYPES)


def _cache_dtype(config: Any) -> Any:
    own = str(config.model_config.dtype).removeprefix("torch.")
    return _unless(config.cache_config.cache_dtype, "auto", own)


def _lora_dtype(config: Any) -> Any:
    if config.lora_config is None:
        return None
    chosen = str(config.lora_config.lora_dtype)
    own = str(config.model_config.dtype)
    return _unless(chosen, "None", "auto", own, own.removeprefix("torch."))


def _full_graphs(config: Any) -> Any:
    # Resolved only after the configuration hook: the second round of checks sees it.
    mode = config.compilation_config.cudagraph_mode
    return mode.name if mode is not None and mode.has_full_cudagraphs() else None


def _runner(config: Any) -> Any:
    return _unless(runner_of(config), "V1")


def _scheduler(config: Any) -> Any:
    chosen = config.scheduler_config.scheduler_cls
    name = chosen if isinstance(chosen, str | None) else f"{chosen.__module__}.{chosen.__name__}"
    return _unless(name, None, SCHEDULER, "lockstep.vllm.SegmentScheduler")


_WITHOUT = "start vLLM without this option"

UNSUPPORTED: tuple[Refused, ...] = (
    RefusedFeature(
        "speculative_config",
        "speculative decoding",
        f"{_WITHOUT}: a rejected draft would leave its cuts behind",
        lambda c: c.speculative_config,
    ),
    RefusedFeature(
        "kv_transfer_config",
        "a KV connector",
        f"{_WITHOUT}: connectors do not carry sinks",
        lambda c: c.kv_transfer_config,
    ),
    RefusedFeature(
        "kv_offloading_size",
        "KV offloading",
        f"{_WITHOUT}: offloading does not carry sinks",
        lambda c: c.cache_config.kv_offloading_size,
    ),
    RefusedFeature(
        "ec_transfer_config",
        "an encoder-cache connector",
        _WITHOUT,
        lambda c: c.ec_transfer_config,
    ),
    RefusedValue(
        "decode_context_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.decode_context_parallel_size, 1),
    ),
    RefusedValue(
        "prefill_context_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.prefill_context_parallel_size, 1),
    ),
    RefusedValue(
        "pipeline_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.pipeline_parallel_size, 1),
    ),
    RefusedValue(
        "data_parallel_size",
        "1",
        "start one engine for each replica: lockstep serve --engine vllm --replicas N",
        lambda c: _unless(c.parallel_config.data_parallel_size, 1),
    ),
    RefusedFeature(
        "enable_dbo",
        "dual-batch overlap",
        _WITHOUT,
        lambda c: c.parallel_config.use_ubatching or None,
    ),
    RefusedFeature(
        "async_scheduling",
        "async scheduling",
        f"{_WITHOUT}: where the next segment starts depends on the token just sampled, which the "
        "host has only after the step",
        lambda c: c.scheduler_config.async_scheduling or None,
    ),
    RefusedValue(
        "scheduler_cls",
        SCHEDULER,
        f"{_WITHOUT}: the plugin chooses it",
        _scheduler,
    ),
    RefusedValue(
        "model_runner",
        "V1",
        "start vLLM without VLLM_USE_V2_MODEL_RUNNER: the plugin asks for V1, which is tested; "
        "V2 is not",
        _runner,
    ),
    RefusedFeature(
        "disable_hybrid_kv_cache_manager",
        "vLLM without its hybrid KV cache manager",
        f"{_WITHOUT}: head groups keep different tokens",
        lambda c: c.scheduler_config.disable_hybrid_kv_cache_manager or None,
    ),
    RefusedFeature(
        "fully_sharded_loras",
        "full sharding of adapters",
        _WITHOUT,
        lambda c: (c.lora_config and c.lora_config.fully_sharded_loras) or None,
    ),
    RefusedValue(
        "lora_dtype",
        "the model's own dtype",
        f"{_WITHOUT}: an adapter uses the dtype of its base",
        _lora_dtype,
    ),
    RefusedFeature(
        "lora_modules",
        "loading adapters into a running vLLM",
        f"start vLLM without {RUNTIME_ADAPTERS}: another adapter in the folder of an earlier one "
        "would find the earlier one's keys and values in the prefix cache",
        lambda c: (
            (c.lora_config and os.environ.get(RUNTIME_ADAPTERS, "0") not in ("", "0")) or None
        ),
    ),
    RefusedFeature(
        "quantization",
        "weight quantization",
        _WITHOUT,
        lambda c: c.model_config.quantization,
    ),
    RefusedValue(
        "kv_cache_dtype",
        "auto",
        f"{_WITHOUT}: a quantized KV cache computes other numbers",
        _cache_dtype,
    ),
    RefusedValue("dtype", " or ".join(_DTYPES), "start vLLM with --dtype float32", _dtype),
    RefusedValue(
        "load_format",
        "safetensors",
        f"{_WITHOUT}: the weights are the checkpoint's own",
        lambda c: _unless(c.load_config.load_format, "auto", "safetensors"),
    ),
    RefusedFeature(
        "enable_prompt_embeds",
        "passing prompts as embeddings",
        f"{_WITHOUT}: a policy sees token ids",
        lambda c: c.model_config.enable_prompt_embeds or None,
    ),
    RefusedValue(
        "runner",
        "generate",
        f"{_WITHOUT}: pooling is not tested",
        lambda c: _unless(c.model_config.runner_type, "generate"),
    ),
    RefusedFeature(
        "hf_overrides",
        "overriding config.json",
        f"{_WITHOUT}: the contract was made for that file",
        lambda c: c.model_config.hf_overrides or None,
    ),
    RefusedFeature(
        "kv_sharing_fast_prefill",
        "KV sharing",
        _WITHOUT,
        lambda c: c.cache_config.kv_sharing_fast_prefill or None,
    ),
    RefusedValue(
        "cudagraph_mode",
        "NONE or PIECEWISE",
        'start vLLM with --compilation-config \'{"cudagraph_mode": "PIECEWISE"}\'',
        _full_graphs,
    ),
)
