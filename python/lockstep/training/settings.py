"""What a training is told: the job's JSON, checked, as one frozen value."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError

MODES = ("segmented", "full")


@dataclass(frozen=True)
class Settings:
    """Settings of a training; names and defaults are those of src/config/training.ts.

    Every field is required here, so that defaults stand in one place only.
    """

    data: tuple[str, ...]
    heldOut: tuple[str, ...] | None
    heldOutTokens: int
    truncation: int
    sequence: int
    batch: int
    learningRate: float
    warmup: float
    finalRate: float
    weightDecay: float
    clip: float
    trainable: str | tuple[str, ...]
    precision: str
    seed: int
    steps: int | None
    minutes: float | None
    saveMinutes: float | None
    saveEvery: int | None
    keep: int | None

    def as_dict(self) -> dict[str, Any]:
        out = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in out.items()}


# Fields that may differ between a checkpoint and its resumption: how long, and how often to save.
SAVING = frozenset({"saveMinutes", "saveEvery", "keep"})
FREE = SAVING | {"steps", "minutes", "heldOut", "heldOutTokens"}


@dataclass(frozen=True)
class Job:
    """One training run.

    model: checkpoint to start from, with the contract attached. base: the directory that the config
    names, for the card and for what was trained before. out: the checkpoint to write. root: where
    the globs of ``data`` start. mode: ``segmented``, or ``full`` for the control (stock attention;
    no contract is written). resume: go on from ``out``. overwrite: replace a training at ``out``.
    plot: PNG to keep up to date.
    """

    model: Path
    base: Path
    out: Path
    root: Path
    mode: str
    resume: bool
    overwrite: bool
    device: str
    plot: Path | None
    training: Settings


def read_job(raw: dict[str, Any]) -> Job:
    """Job of ``raw``. Raises LS_TRAIN_SETTINGS with the field that does not fit."""
    known = {f.name for f in fields(Job)}
    _same_names("job", known, raw)
    settings = raw["training"]
    _same_names("training", {f.name for f in fields(Settings)}, settings)
    if raw["mode"] not in MODES:
        raise LockstepError(
            "LS_TRAIN_SETTINGS", f"expected mode to be one of {', '.join(MODES)}, got {raw['mode']}"
        )
    if (settings["steps"] is None) == (settings["minutes"] is None):
        raise LockstepError(
            "LS_TRAIN_SETTINGS",
            "expected exactly one of training.steps and training.minutes, got "
            + ("neither" if settings["steps"] is None else "both"),
            "Give --steps N or --minutes X.",
        )
    tuples: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()
    }
    return Job(
        model=Path(raw["model"]),
        base=Path(raw["base"]),
        out=Path(raw["out"]),
        root=Path(raw["root"]),
        mode=raw["mode"],
        resume=bool(raw["resume"]),
        overwrite=bool(raw["overwrite"]),
        device=raw["device"],
        plot=Path(raw["plot"]) if raw["plot"] else None,
        training=Settings(**tuples),
    )


def _same_names(where: str, expected: set[str], got: dict[str, Any]) -> None:
    missing, unknown = sorted(expected - got.keys()), sorted(got.keys() - expected)
    if missing or unknown:
        raise LockstepError(
            "LS_TRAIN_SETTINGS",
            f"expected every field of {where} once, got missing [{', '.join(missing)}] and "
            f"unknown [{', '.join(unknown)}]",
        )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """``field: old -> new`` for every setting that must not change on resumption, sorted."""
    names = sorted((old.keys() | new.keys()) - FREE)
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in names
        if old.get(name) != new.get(name)
    ]
