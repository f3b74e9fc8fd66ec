"""A model whose generation_config.json is one that transformers reads and refuses to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import GenerationConfig


@contextmanager
def writable(module: Any) -> Iterator[None]:
    """Within it `module.save_pretrained` does not fail over the model's generation config.

    Many published models name a temperature without do_sample: transformers warns when it reads
    that, and raises when it writes it. Such a config gives way to one of the same token ids; where
    the model came with a file, a checkpoint takes over its bytes anyway. The model keeps its own.
    """
    own = getattr(module, "generation_config", None)
    if own is None or _is_valid(own):
        yield
        return
    pad = own.pad_token_id
    module.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=pad if pad is None or pad >= 0 else None,
    )
    try:
        yield
    finally:
        module.generation_config = own


def _is_valid(config: GenerationConfig) -> bool:
    try:
        config.validate(strict=True)
    except ValueError:
        return False
    return True
