"""Lockstep: segmented execution of long-context language models, the same in training and serving.

Names are imported on first use, so that reading a contract or planning does not wait for torch.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from .errors import LockstepError

# Before any library is loaded that would report to its maker (src/bridge/environment.ts, too).
os.environ.update(json.loads((Path(__file__).parent / "no_telemetry.json").read_text()))

_FROM = {
    "Model": ".operator.model",
    "Trace": ".operator.model",
    "Spec": ".contract.spec",
    "load": ".loader",
    "save_adapter": ".transformers.adapters",
    "State": ".operator.state",
}
_MODULES = {
    "contract": ".contract",
    "full": ".baseline.full",
    "job": ".bridge.job",
    "retrieval": ".retrieval",
    "tbptt": ".training.tbptt",
}

__all__ = ["LockstepError", *_FROM, *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from .install import version

        return version()
    if name in _FROM:
        value = getattr(import_module(_FROM[name], __name__), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(_MODULES[name], __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
