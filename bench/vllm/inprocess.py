"""vLLM in this process, looked into: what the benches beside it time and count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class Inside:
    """One engine, in float32, eager, without prefix caching, and its pool of KV blocks.

    mode ``segmented`` loads the plugin; ``full`` is vLLM as it comes. space: GiB of KV cache.
    """

    def __init__(self, folder: Path, mode: str, threads: int, space: float, **options: Any):
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
        os.environ["VLLM_PLUGINS"] = "lockstep" if mode == "segmented" else ""
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        import torch
        from vllm import LLM

        torch.set_num_threads(threads)
        llm = LLM(
            model=str(folder),
            dtype="float32",
            enforce_eager=True,
            enable_prefix_caching=False,
            disable_log_stats=True,
            kv_cache_memory_bytes=int(space * 2**30),
            seed=0,
            **options,
        )
        self.engine: Any = llm.llm_engine
        self.scheduler: Any = self.engine.engine_core.engine_core.scheduler
        groups = self.scheduler.kv_cache_config.kv_cache_groups
        # Groups share one pool: a block is a page of every layer of whichever group holds it.
        self.block_bytes: int = max(
            group.kv_cache_spec.page_size_bytes * len(group.layer_names) for group in groups
        )
        self._pool = self.scheduler.kv_cache_manager.block_pool
        self._idle = self._pool.get_num_free_blocks()

    @property
    def held(self) -> int:
        """Bytes of the KV blocks in use."""
        return int((self._idle - self._pool.get_num_free_blocks()) * self.block_bytes)
