"""Activation checkpointing inside a segment: a layer's activations are computed again when its
backward pass needs them, so that a segment keeps one row of hidden states a layer.

Every backward pass through a segment's graph computes them again: K + 1 times for truncation K.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(
    layers: Iterable[nn.Module], replay: Callable[[], AbstractContextManager[Any]]
) -> Iterator[None]:
    """Meanwhile the layers keep their inputs alone. ``replay()`` surrounds every later computation:
    it puts back what the forward pass saw, and must record nothing."""
    wrapped = list(layers)
    for layer in wrapped:
        layer.forward = partial(_checkpointed, layer.forward, replay)
    try:
        yield
    finally:
        for layer in wrapped:
            del layer.forward


class _Again:
    """A fresh ``make()`` each time it is entered: a graph may be gone through several times."""

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]):
        self._make = make
        self._entered: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        self._entered.append(self._make())
        self._entered[-1].__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._entered.pop().__exit__(*error)


def _checkpointed(
    forward: Callable[..., Any],
    replay: Callable[[], AbstractContextManager[Any]],
    *args: Any,
    **kwargs: Any,
) -> Any:
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        # Nothing in a layer draws random numbers: no dropout is applied.
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _Again(replay)),
        **kwargs,
    )
