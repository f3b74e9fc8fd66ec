"""What segmented execution reports: from the scheduler's process to Prometheus in the server's.

vLLM's SchedulerStats crosses between the two once a step. Its one free map of names to integers is
the one of LoRA adapters with running requests, which vLLM fills in the server's process alone. The
report travels there, and is taken out before vLLM's own loggers see it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase

from .versions import runner_of, version

_MARK = "lockstep:"


class SegmentCounters:
    """Counts of one scheduler; ``put`` writes them into the stats of a step."""

    def __init__(self, digest: str, vllm_config: Any, kv_cache_config: Any):
        self._digest = digest
        self._groups = [
            (_name(group.layer_names), group.kv_cache_spec.page_size_bytes)
            for group in kv_cache_config.kv_cache_groups
        ]
        self._token_bytes = _full_attention_bytes(vllm_config)
        self._counts: Counter[str] = Counter()
        self._next = 0.0

    def chunk(self, end: str) -> None:
        """A prefill chunk ended at a ``boundary``, at the ``prompt``'s end, or with ``budget``."""
        self._counts[f"chunks:{end}"] += 1

    def finished(self, segments: int) -> None:
        """A request finished that closed so many segments."""
        self._counts["requests"] += 1
        self._counts["segments"] += segments

    def put(self, stats: Any, managers: Sequence[Any], running: Sequence[Any]) -> None:
        """Blocks are counted twice a second at most: that walks through every running request."""
        told = stats.running_lora_adapters
        told[f"{_MARK}digest:{self._digest}"] = 1
        told.update((_MARK + name, count) for name, count in self._counts.items())
        now = time.monotonic()
        if running and now < self._next:
            return
        self._next = now + 0.5
        used = 0
        for (name, page), manager in zip(self._groups, managers, strict=True):
            blocks = sum(_held(manager.req_to_blocks.get(r.request_id, ())) for r in running)
            told[f"{_MARK}blocks:{name}"] = blocks
            used += blocks * page
        told[f"{_MARK}bytes"] = used
        told[f"{_MARK}full"] = self._token_bytes * sum(r.num_computed_tokens for r in running)


class SegmentStats(StatLoggerBase):
    """Stat logger of one engine, in the server's process: sets Prometheus gauges."""

    def __init__(self, vllm_config: Any, engine_index: int = 0):
        self._gauges = _gauges()
        info, _ = self._gauges["info"]
        info.labels(version(), runner_of(vllm_config), str(engine_index)).set(1)

    def record(
        self,
        scheduler_stats: Any,
        iteration_stats: Any,
        mm_cache_stats: Any = None,
        engine_idx: int = 0,
    ) -> None:
        if scheduler_stats is None:
            return
        told = scheduler_stats.running_lora_adapters
        for key in [key for key in told if key.startswith(_MARK)]:
            value = told.pop(key)
            name, _, label = key.removeprefix(_MARK).partition(":")
            gauge, labelled = self._gauges[name]
            gauge.labels(*([label] if labelled else []), str(engine_idx)).set(value)

    def log_engine_initialized(self) -> None:
        pass


def set_probe(milliseconds: float) -> None:
    """In the server's process: what its probe took."""
    gauge, _ = _gauges()["probe"]
    gauge.labels("0").set(milliseconds)


@cache
def _gauges() -> dict[str, tuple[Any, bool]]:
    from prometheus_client import Gauge

    def gauge(name: str, what: str, *labels: str) -> tuple[Any, bool]:
        made = Gauge(name, what, [*labels, "engine"], multiprocess_mode="mostrecent")
        return made, bool(labels)

    return {
        "info": gauge("lockstep_engine_info", "vLLM and its model runner.", "version", "runner"),
        "probe": gauge("lockstep_probe_milliseconds", "Duration of the startup probe."),
        "digest": gauge("lockstep_contract_info", "Contract the engine runs under.", "digest"),
        "blocks": gauge("lockstep_kv_blocks", "KV blocks of running requests.", "group"),
        "bytes": gauge("lockstep_kv_bytes", "Bytes of those blocks."),
        "full": gauge("lockstep_kv_bytes_full", "Bytes that full attention would hold for them."),
        "chunks": gauge("lockstep_chunks_total", "Prefill chunks by what ended them.", "end"),
        "segments": gauge("lockstep_segments_total", "Segments closed in finished requests."),
        "requests": gauge("lockstep_requests_total", "Finished requests."),
    }


def _name(layer_names: Sequence[str]) -> str:
    return layer_names[0].rpartition(".")[2]


def _held(blocks: Sequence[Any]) -> int:
    """Blocks that are not the null block, which fills one gap behind the sinks."""
    first = next((i for i, block in enumerate(blocks) if block.is_null), len(blocks))
    for block in reversed(blocks[first:]):
        if block.is_null:
            break
        first += 1
    return first


def _full_attention_bytes(vllm_config: Any) -> int:
    """Bytes of K and V that one token takes on one rank where every head keeps every token."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    heads = model.get_num_kv_heads(parallel) * model.get_num_layers(parallel)
    return 2 * heads * model.get_head_size() * model.dtype.itemsize
