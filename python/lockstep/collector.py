"""Imports of PyTorch and transformers without the garbage collector.

They make hundreds of thousands of objects, none of which is garbage. The collector looks through
them again and again: during the imports, at each full collection later, and when the process ends.
That is a third of the processor time of a process that loads a small model.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection inside. What exists afterwards is not looked at again (``gc.freeze``): it is
    freed when nothing refers to it, but a cycle among these objects stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
