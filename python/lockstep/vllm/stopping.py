"""Every answer ends at the ids that the contract names, whichever client asked (SEMANTICS.md 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def stop_at(sampling: Any, ends: Sequence[int]) -> None:
    """Let a request end at ``ends`` beside the stop ids that it asks for.

    vLLM itself knows only the end ids of the tokenizer and of generation_config. A request with
    ``ignore_eos`` does not end at ``ends``: `lockstep serve` sets it and names every id itself.
    """
    if sampling is None or sampling.ignore_eos:
        return
    sampling.stop_token_ids = sorted({*(sampling.stop_token_ids or ()), *ends})
    # min_tokens keeps these back.
    sampling.all_stop_token_ids.update(ends)
