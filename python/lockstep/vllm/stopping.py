"""Where an answer ends: at the ids that the contract names, whoever asked (SEMANTICS.md 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def stop_at(sampling: Any, ends: Sequence[int]) -> None:
    """Let a request end at ``ends`` beside the stop ids that it asks for.

    vLLM itself knows the tokenizer's and generation_config's end ids alone. One that says
    ``ignore_eos`` goes on: `lockstep serve` says it, and names every id.
    """
    if sampling is None or sampling.ignore_eos:
        return
    sampling.stop_token_ids = sorted({*(sampling.stop_token_ids or ()), *ends})
    # min_tokens keeps these back.
    sampling.all_stop_token_ids.update(ends)
