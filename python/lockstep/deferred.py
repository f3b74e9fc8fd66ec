"""Two functions that transformers imports at its start and that hardly any program calls.

``linear_sum_assignment`` is for a loss of object detection, ``roc_curve`` for assisted generation.
Their packages, SciPy and scikit-learn (with pandas), take a third of the processor time of a
process that loads a small model. Inside `deferred`, transformers gets in the place of each a
function that imports the real one when it is first called.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_FUNCTIONS = {"scipy.optimize": "linear_sum_assignment", "sklearn.metrics": "roc_curve"}


@contextmanager
def deferred() -> Iterator[None]:
    """Import transformers inside. Afterwards every import gets the real modules."""
    absent = {name: _stand_in(name) for name in _FUNCTIONS if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name, module in absent.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)

    def real() -> ModuleType:
        if sys.modules.get(name) is module:
            del sys.modules[name]
        return importlib.import_module(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(real(), _FUNCTIONS[name])(*args, **kwargs)

    def other(attribute: str) -> Any:
        """Any other attribute needs the real module, which is imported now."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return getattr(real(), attribute)

    setattr(module, _FUNCTIONS[name], call)
    module.__getattr__ = other  # type: ignore[method-assign]
    return module
