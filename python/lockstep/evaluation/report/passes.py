"""One pass over a text, with everything a report wants of it: losses, time, memory, retrieval."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from transformers import DynamicCache

from ...baseline import full
from ...bridge import job
from ...operator import lm_head
from ...operator.contexts import packed_spans
from ...operator.model import Model

SAMPLE_SECONDS = 0.01


@dataclass
class Point:
    """How things stand after the first ``tokens`` tokens.

    seconds: since the pass began. held: bytes that serving keeps between steps (sinks, carry, pool,
    retrieved rows and the open segment, which is full just before its boundary; of full attention
    the KV cache). peak: most memory taken so far beyond the loaded model, in bytes.
    """

    tokens: int
    seconds: float
    held: int
    peak: int


@dataclass
class Pass:
    """nll: -log p(x_{t+1}) in nats, [T - 1]. boundaries: where a segment ended. retrieved: per
    boundary {layer: [H_long, R'] pool positions} (the pool leaves the sinks out)."""

    nll: list[float]
    points: list[Point]
    boundaries: list[int] = field(default_factory=list)
    retrieved: list[dict[int, torch.Tensor]] = field(default_factory=list)


class Peak:
    """Highest memory use since it was made: of the device on CUDA, of this process elsewhere.

    The process is looked at every 10 ms: a peak that is shorter than that may be missed.
    """

    def __init__(self, device: torch.device):
        self.device, self._stop = device, threading.Event()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        # What an earlier pass freed goes back to the system, else this one would seem to need less.
        with contextlib.suppress(OSError, AttributeError):  # glibc's own
            ctypes.CDLL(None).malloc_trim(0)
        self._process = psutil.Process()
        self._before = self._highest = self._process.memory_info().rss
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        self._highest = max(self._highest, self._process.memory_info().rss)

    def bytes(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device)) - self._before
        self._look()
        return int(self._highest - self._before)

    def stop(self) -> None:
        self._stop.set()


@torch.no_grad()
def segmented(model: Model, ids: Sequence[int]) -> Pass:
    """Run ``ids`` segment by segment, as a server prefills them; a point at every boundary."""
    cuts, state = model.plan(ids), model.state()
    ids_T = torch.tensor(list(ids), device=model.device)
    out = Pass([], [])
    peak, began = Peak(model.device), time.perf_counter()
    try:
        for span in packed_spans(len(ids_T), cuts):
            job.check_cancelled()
            end = span.start + span.length
            hidden_tE = model.step_hidden(state, ids_T[span.start : end])
            targets_t = ids_T[span.start + 1 : end + 1]
            out.nll += lm_head.nll(model.head, hidden_tE[: len(targets_t)], targets_t).tolist()
            held = sum(state.nbytes().values())
            if end in cuts:
                out.boundaries.append(end)
                out.retrieved.append({k: v.cpu() for k, v in model.close(state).items()})
            out.points.append(Point(end, time.perf_counter() - began, held, peak.bytes()))
    finally:
        peak.stop()
    return out


def full_attention(model: Model, ids: Sequence[int], lengths: Sequence[int]) -> Pass:
    """Run the first n of ``ids`` with stock full attention for every n, ascending, each filling a
    KV cache as a server's prefill does; the losses are those of the last, longest one."""
    out = Pass([], [])
    for n in sorted(lengths):
        job.check_cancelled()
        peak, began = Peak(model.device), time.perf_counter()
        try:
            out.nll = full.nll(model, list(ids[:n]), DynamicCache(config=model.config)).tolist()
        finally:
            peak.stop()
        seconds = time.perf_counter() - began
        out.points.append(Point(n, seconds, n * cache_bytes(model), peak.bytes()))
    return out


def cache_bytes(model: Model) -> int:
    """Bytes of the KV cache that full attention keeps for one token."""
    config: Any = model.config
    layout = model.layout
    rows = 2 * config.num_hidden_layers * config.num_key_value_heads
    return int(rows * layout.head_dim * torch.empty(0, dtype=model.dtype).element_size())
