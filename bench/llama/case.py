"""One case, in a process of its own: a random model on the device, one way of prefilling, timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from full import cache_bytes, chunked, whole
from lockstep.operator.model import Model
from prefill import peak_bytes
from setting import Setting, Shape
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
#: One prefill: logits of the last row [V], and the bytes of keys and values kept.
Prefill = Callable[[Tensor], tuple[Tensor, int]]


def random_module(shape: Shape, dtype: torch.dtype, device: str) -> Any:
    """A Llama of this shape, its weights drawn on the device in their own type."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        **vars(shape), bos_token_id=None, eos_token_id=None, pad_token_id=None, rms_norm_eps=1e-5
    )
    torch.manual_seed(0)
    with torch.device(device):
        module = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    return module.eval()


def segmented(model: Model) -> Prefill:
    def prefill(ids_T: Tensor) -> tuple[Tensor, int]:
        state, start = model.state(), 0
        for end in [*model.plan(ids_T), len(ids_T)]:
            if end == start:
                continue
            last = end == len(ids_T)
            logits_rV = model.step(state, ids_T[start:end], rows="last" if last else "none")
            # What a boundary at the very end would retrieve, nobody sees.
            if not last:
                model.close(state)
            start = end
        return logits_rV[-1], sum(state.nbytes().values())

    return prefill


def full(module: Any, device: str, chunk: int | None) -> Prefill:
    def prefill(ids_T: Tensor) -> tuple[Tensor, int]:
        ids_T = ids_T.to(device)
        row_E, cache = chunked(module, ids_T, chunk) if chunk else whole(module, ids_T)
        return module.lm_head(row_E).float(), cache_bytes(cache)

    return prefill


def kernel_of(mode: str, dtype: torch.dtype, device: str) -> str:
    """ "flash" where full attention is held to FlashAttention, which wants a GPU and 16 bits."""
    held = mode != "segmented" and device == "cuda" and dtype != torch.float32
    return "flash" if held else "torch's choice"


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: a CUDA one, cuBLAS's workspace, or one in main memory."""
    signs = ("out of memory", "alloc_failed", "can't allocate memory")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(sign in str(error).lower() for sign in signs)


def measure(
    setting: Setting, mode: str, tokens: int, *, dtype: str, device: str, repeat: int
) -> dict[str, Any]:
    """The row of one case; one that does not fit is a row as well.

    Seconds are the median of ``repeat`` prefills after a short one. ``peakBytes`` is on cuda the
    most that tensors took during these, weights included; on a CPU the highest resident set of the
    process.
    """
    row: dict[str, Any] = {"mode": mode, "tokens": tokens, "outcome": "measured"}
    try:
        with torch.inference_mode():
            _measure(row, setting, DTYPES[dtype], device, repeat)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        row |= {"outcome": "out of memory", "reason": str(error).splitlines()[0][:300]}
    return row


def _measure(
    row: dict[str, Any], setting: Setting, dtype: torch.dtype, device: str, repeat: int
) -> None:
    mode, tokens, cuda = row["mode"], row["tokens"], device == "cuda"
    row["kernel"] = kernel_of(mode, dtype, device)
    if cuda:
        card = torch.cuda.get_device_properties(0)
        row["device"] = {"name": card.name, "bytes": card.total_memory}
    module = random_module(setting.shape, dtype, device)
    row["weightsBytes"] = sum(p.numel() * p.element_size() for p in module.parameters())
    if mode == "segmented":
        prefill = segmented(Model.from_module(module, setting.spec))
    else:
        prefill = full(module, device, setting.segment if mode == "full-chunked" else None)
    generator = torch.Generator().manual_seed(1)
    ids_T = torch.randint(setting.shape.vocab_size, (tokens,), generator=generator)
    seconds = []
    flash = row["kernel"] == "flash"
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext():
        # Over a boundary, so that its kernels are loaded too.
        prefill(ids_T[: setting.segment + 64])
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        for _ in range(repeat):
            began = time.perf_counter()
            logits_V, row["kvBytes"] = prefill(ids_T)
            # Waits for the device, too.
            row["finite"] = bool(torch.isfinite(logits_V).all())
            seconds.append(time.perf_counter() - began)
    row["seconds"] = statistics.median(seconds)
    row["all"] = seconds
    row["tokensPerSecond"] = tokens / row["seconds"]
    row["peakBytes"] = torch.cuda.max_memory_allocated() if cuda else peak_bytes()
    if cuda:
        row["peakReservedBytes"] = torch.cuda.max_memory_reserved()
