"""Which parameters a training moves."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from lockstep.errors import LockstepError
from lockstep.training.lora import BASE, adapters

NAMED = {"all": ("*",), "attention": ("*.self_attn.*", "*norm.weight")}


def select(module: nn.Module, trainable: str | tuple[str, ...]) -> dict[str, nn.Parameter]:
    """Freeze all parameters but the chosen ones; returns those by name, in the module's order.

    ``all``, ``attention`` (projections and norms), or patterns of names (``*`` and ``?``).
    Adapters (lora.py) are always among the chosen ones, the projections below them never.
    Raises LS_TRAIN_TRAINABLE when a pattern matches no parameter.
    """
    patterns = NAMED[trainable] if isinstance(trainable, str) else trainable
    low_rank = adapters(module)
    named = {n: p for n, p in module.named_parameters() if BASE not in n and n not in low_rank}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in named):
            raise LockstepError(
                "LS_TRAIN_TRAINABLE",
                f"expected training.trainable to match parameters, got {pattern!r} which matches "
                f"none of {len(named)} (such as {next(iter(named))})",
                "Correct the pattern, or leave it out.",
            )
    chosen = {n for n in named if any(fnmatchcase(n, x) for x in patterns)} | low_rank.keys()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in chosen)
    return {n: p for n, p in module.named_parameters() if n in chosen}
