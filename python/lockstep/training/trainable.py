"""Which parameters a training moves."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from lockstep.errors import LockstepError

NAMED = {"all": ("*",), "attention": ("*.self_attn.*", "*norm.weight")}


def select(module: nn.Module, trainable: str | tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Freeze all parameters but the chosen ones; returns those by name, in the module's order.

    ``all``, ``attention`` (projections and norms), or patterns of names (``*`` and ``?``).
    Raises LS_TRAIN_TRAINABLE when a pattern matches no parameter.
    """
    patterns = NAMED[trainable] if isinstance(trainable, str) else trainable
    named = dict(module.named_parameters())
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise LockstepError(
                "LS_TRAIN_TRAINABLE",
                f"expected training.trainable to match parameters, got {pattern!r} which matches "
                f"none of {len(named)} (such as {next(iter(named))})",
            )
    chosen = {n: p for n, p in named.items() if any(fnmatchcase(n, x) for x in patterns)}
    for name, parameter in named.items():
        parameter.requires_grad_(name in chosen)
    return chosen
