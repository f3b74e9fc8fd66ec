"""Settings of vLLM that a segmented model is not served under, each with what to do instead.

What stands here changes what is computed, or was not shown to leave it alone.
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
class Refusal:
    """A setting, what it has to be, and how to get there. ``wrong`` gives what it is instead."""

    field: str
    expected: str
    fix: str
    wrong: Callable[[Any], Any]


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


_WITHOUT = "start vLLM without it"

UNSUPPORTED = (
    Refusal(
        "speculative_config",
        "no speculative decoding",
        f"{_WITHOUT}: a rejected draft would leave cuts behind",
        lambda c: c.speculative_config,
    ),
    Refusal(
        "kv_transfer_config",
        "no KV connector",
        f"{_WITHOUT}: connectors do not carry sinks",
        lambda c: c.kv_transfer_config,
    ),
    Refusal(
        "kv_offloading_size",
        "no KV offloading",
        f"{_WITHOUT}: it does not carry sinks",
        lambda c: c.cache_config.kv_offloading_size,
    ),
    Refusal(
        "ec_transfer_config",
        "no encoder-cache connector",
        _WITHOUT,
        lambda c: c.ec_transfer_config,
    ),
    Refusal(
        "decode_context_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.decode_context_parallel_size, 1),
    ),
    Refusal(
        "prefill_context_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.prefill_context_parallel_size, 1),
    ),
    Refusal(
        "pipeline_parallel_size",
        "1",
        f"{_WITHOUT}: use tensor parallelism",
        lambda c: _unless(c.parallel_config.pipeline_parallel_size, 1),
    ),
    Refusal(
        "data_parallel_size",
        "1",
        "start one engine a replica: lockstep serve --engine vllm --replicas N",
        lambda c: _unless(c.parallel_config.data_parallel_size, 1),
    ),
    Refusal(
        "enable_dbo",
        "no dual-batch overlap",
        _WITHOUT,
        lambda c: c.parallel_config.use_ubatching or None,
    ),
    Refusal(
        "async_scheduling",
        "no async scheduling",
        f"{_WITHOUT}: where the next segment starts depends on the token just sampled, which the "
        "host has only after the step",
        lambda c: c.scheduler_config.async_scheduling or None,
    ),
    Refusal(
        "scheduler_cls",
        SCHEDULER,
        f"{_WITHOUT}: the plugin chooses it",
        _scheduler,
    ),
    Refusal(
        "model_runner",
        "V1",
        "start vLLM without VLLM_USE_V2_MODEL_RUNNER: the plugin asks for V1, which is tested; "
        "V2 is not",
        _runner,
    ),
    Refusal(
        "disable_hybrid_kv_cache_manager",
        "the hybrid KV cache manager",
        f"{_WITHOUT}: head groups keep different tokens",
        lambda c: c.scheduler_config.disable_hybrid_kv_cache_manager or None,
    ),
    Refusal(
        "fully_sharded_loras",
        "adapters whose A is whole on every rank",
        _WITHOUT,
        lambda c: (c.lora_config and c.lora_config.fully_sharded_loras) or None,
    ),
    Refusal(
        "lora_dtype",
        "the model's own dtype",
        f"{_WITHOUT}: an adapter uses the dtype of its base",
        _lora_dtype,
    ),
    Refusal(
        "lora_modules",
        "the adapters that it was started with",
        f"start vLLM without {RUNTIME_ADAPTERS}: another adapter in the folder of an earlier one "
        "would find the earlier one's keys and values in the prefix cache",
        lambda c: (
            (c.lora_config and os.environ.get(RUNTIME_ADAPTERS, "0") not in ("", "0")) or None
        ),
    ),
    Refusal(
        "quantization",
        "the weights that the trainer wrote",
        _WITHOUT,
        lambda c: c.model_config.quantization,
    ),
    Refusal(
        "kv_cache_dtype",
        "auto",
        f"{_WITHOUT}: a quantised KV cache computes other numbers",
        _cache_dtype,
    ),
    Refusal("dtype", " or ".join(_DTYPES), "start vLLM with --dtype float32", _dtype),
    Refusal(
        "load_format",
        "safetensors",
        f"{_WITHOUT}: the weights are the checkpoint's own",
        lambda c: _unless(c.load_config.load_format, "auto", "safetensors"),
    ),
    Refusal(
        "enable_prompt_embeds",
        "token ids as prompts",
        f"{_WITHOUT}: a policy sees token ids",
        lambda c: c.model_config.enable_prompt_embeds or None,
    ),
    Refusal(
        "runner",
        "generate",
        f"{_WITHOUT}: pooling is not tested",
        lambda c: _unless(c.model_config.runner_type, "generate"),
    ),
    Refusal(
        "hf_overrides",
        "the checkpoint's own config.json",
        f"{_WITHOUT}: the contract was made for that file",
        lambda c: c.model_config.hf_overrides or None,
    ),
    Refusal(
        "kv_sharing_fast_prefill",
        "no KV sharing",
        _WITHOUT,
        lambda c: c.cache_config.kv_sharing_fast_prefill or None,
    ),
    Refusal(
        "cudagraph_mode",
        "NONE or PIECEWISE",
        'start vLLM with --compilation-config \'{"cudagraph_mode": "PIECEWISE"}\'',
        _full_graphs,
    ),
)
