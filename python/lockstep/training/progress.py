"""What a training has done so far, beside the weights: kept in `training/` of a checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lockstep.errors import LockstepError
from lockstep.training.data import Cursor

STATE, OPTIMIZER = "training/state.json", "training/optimizer.safetensors"
ADAPTER = "training/adapter.safetensors"
# What depends on a clock has its own file. With a budget in steps, every other file of a training
# depends bit for bit on its inputs alone, however often the training was interrupted.
CLOCK = "training/clock.json"
SECONDS = 2  # the column of the curve that a clock decided
VERSION = 2
#: `trained` of a contract that was attached.
NEVER = {"steps": 0, "tokens": 0}
RNG = "rng.torch"


@dataclass
class Progress:
    """Counters, data position and curve of one training.

    seconds: time spent in optimizer steps. curve: one row a step,
    [step, tokens so far, seconds so far, loss in nats per token, learning rate, gradient norm].
    scores: held-out text before and after, nats per token. validations: the same during the
    training, one row [step, run segmented, run with full attention]. preferences: of a training on
    two answers, one row a step, [step, mean margin, share of rows with the right sign].
    start: the state of the checkpoint that training began from (`trained` of its contract).
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cursor: Cursor = field(default_factory=Cursor)
    curve: list[list[float]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    validations: list[list[float]] = field(default_factory=list)
    preferences: list[list[float]] = field(default_factory=list)
    start: dict[str, int] = field(default_factory=lambda: dict(NEVER))

    def trained(self) -> dict[str, int]:
        """`trained` of the contract: steps and tokens seen under it, earlier trainings included."""
        return {
            "steps": self.start["steps"] + self.step,
            "tokens": self.start["tokens"] + self.tokens,
        }


def write(
    directory: Path,
    progress: Progress,
    settings: dict[str, Any],
    moments: dict[str, torch.Tensor],
    trained: dict[str, torch.Tensor] | None,
    identity: dict[str, Any],
) -> None:
    """Write `training/` below ``directory``: JSON and safetensors, nothing that runs when loaded.

    moments: the optimizer's state, `exp_avg.NAME` and so on. trained: of a training with adapters,
    the trained tensors themselves (the model's weights hold them merged).
    identity: what must be the same on resumption (base model, mode, contract digest).
    """
    (directory / "training").mkdir()
    steps = asdict(progress)
    clock = {"seconds": steps.pop("seconds"), "curve": [row.pop(SECONDS) for row in steps["curve"]]}
    state = {"version": VERSION, **identity, "settings": settings, "progress": steps}
    for name, value in ((STATE, state), (CLOCK, clock)):
        (directory / name).write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
    save_file({RNG: torch.get_rng_state(), **moments}, directory / OPTIMIZER)
    if trained is not None:
        save_file(trained, directory / ADAPTER)


def read_state(directory: Path) -> dict[str, Any]:
    """Content of `training/state.json`. Raises LS_TRAIN_RESUME if there is none."""
    path = directory / STATE
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LockstepError(
            "LS_TRAIN_RESUME",
            f"expected a checkpoint of a training at {directory}, got no readable {STATE}",
            "Start without --resume.",
        ) from error
    if state.get("version") != VERSION:
        raise LockstepError(
            "LS_TRAIN_RESUME",
            f"expected version {VERSION} of {path}, got {state.get('version')}",
            "It was written by another version of Lockstep: start over with --overwrite.",
        )
    return state


def read_progress(directory: Path) -> Progress:
    """The progress that `write` wrote below ``directory``, seconds included."""
    raw = read_state(directory)["progress"]
    clock = json.loads((directory / CLOCK).read_text(encoding="utf-8"))
    for row, seconds in zip(raw["curve"], clock["curve"], strict=True):
        row.insert(SECONDS, seconds)
    return Progress(**{**raw, "seconds": clock["seconds"], "cursor": Cursor(**raw["cursor"])})


def read_moments(directory: Path) -> dict[str, torch.Tensor]:
    """The optimizer's state as `write` got it; restores the random state.

    Raises LS_TRAIN_RESUME when the file does not fit.
    """
    try:
        moments = load_file(directory / OPTIMIZER)
        torch.set_rng_state(moments.pop(RNG))
    except Exception as error:
        raise _damaged("the optimizer's state", directory / OPTIMIZER, error) from error
    return moments


def read_trained(directory: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Restore the trained tensors of a training with adapters. Raises LS_TRAIN_RESUME."""
    try:
        found = load_file(directory / ADAPTER)
        with torch.no_grad():
            for name, value in found.items():
                parameters[name].copy_(value)
    except Exception as error:
        raise _damaged("the adapters", directory / ADAPTER, error) from error


def _damaged(what: str, path: Path, error: Exception) -> LockstepError:
    return LockstepError(
        "LS_TRAIN_RESUME",
        f"expected {what} in {path}, got: {error}",
        "The checkpoint is damaged: start without --resume from another one.",
    )
