"""vLLM serves segmented checkpoints: `register` is the plugin's entry point.

Upstream model classes stay as they are; ours derive from them (model.py), swap their attention
(attention.py) and keep K/V by head group (caches.py, kvspec.py).
"""

from __future__ import annotations

import importlib
from typing import Any

#: Upstream's classes; the checkpoint's config.json names ``Segmented`` + one of them.
BASES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


def register() -> None:
    """Entry point of ``vllm.general_plugins``; vLLM calls it in every process, maybe twice."""
    from .versions import choose_runner

    choose_runner()
    from vllm import ModelRegistry

    # vLLM reads config.json after its plugins are loaded: its model_type is known by then.
    importlib.import_module("lockstep.transformers")
    from .checks import install

    for base in BASES:
        name = f"Segmented{base}"
        if name not in ModelRegistry.models:
            ModelRegistry.register_model(name, f"lockstep.vllm.model:{name}")
    install()


def __getattr__(name: str) -> Any:
    if name == "SegmentScheduler":
        from .scheduler import SegmentScheduler

        return SegmentScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
