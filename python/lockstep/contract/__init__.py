"""The contract: what it holds, reading and verifying it, its policy, and the plans that follow.

``lockstep.contract.read`` and its like are `reader`'s; they are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_READER = ("Contract", "digest_of", "read")

__all__ = list(_READER)


def __getattr__(name: str) -> Any:
    if name in _READER:
        return getattr(import_module(".reader", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
