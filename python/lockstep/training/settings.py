"""The settings of a training: the job's JSON, checked, as one frozen value."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from lockstep.errors import LockstepError
from lockstep.training.data.recall_rows import RecallRows

ATTENTION = ("segmented", "full")


@dataclass(frozen=True)
class Lora:
    """Adapters: rank r, scale alpha / rank; modules are names of projections, or patterns."""

    rank: int
    alpha: float
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Dpo:
    """Preference training. beta: how strongly the reference holds. lengthNormalized: log p of an
    answer is a mean over its tokens instead of a sum."""

    beta: float
    lengthNormalized: bool


@dataclass(frozen=True)
class TextOptions:
    """How texts are read: the options of the config's `data` beside its files.

    format: of rows, or ``auto``. field: where they hold their text or messages, None for the usual
    names. loss: which targets of a conversation count. end: text of the token that ends documents,
    None for the tokenizer's, False for none. long: ``cut`` conversations that are longer than a
    sequence, or ``refuse`` them. pack: several short documents in one sequence; None packs
    conversations alone. cache: folder of tokenized texts, None for .lockstep/cache under the root.
    workers: processes that cut sequences ahead of the training. recall: rows that ask for needles
    in the texts, mixed among them; None for none. heldOutDocuments: how many held-out
    documents are scored at most.
    """

    format: str
    field: str | None
    loss: Literal["assistant", "last", "all"]
    end: str | bool | None
    long: str
    pack: bool | None
    skipBroken: bool
    cache: str | None
    workers: int
    recall: RecallRows | None
    heldOutDocuments: int


@dataclass(frozen=True)
class Settings:
    """Settings of a training; names and defaults are those of src/config/training.ts.

    Every field is required here, so that defaults stand in one place only.
    """

    data: tuple[str, ...]
    heldOut: tuple[str, ...] | float | None
    texts: TextOptions
    heldOutTokens: int
    truncation: int
    sequence: int
    batch: int
    accumulate: int
    learningRate: float
    schedule: str
    warmup: float
    finalRate: float
    weightDecay: float
    clip: float
    trainable: str | tuple[str, ...]
    lora: Lora | None
    dpo: Dpo | None
    precision: str
    recompute: bool
    seed: int
    steps: int | None
    minutes: float | None
    saveMinutes: float | None
    saveEvery: int | None
    keep: int | None
    validateEvery: int | None
    spike: float
    patience: int

    def as_dict(self) -> dict[str, Any]:
        out: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return out

    @property
    def sequences(self) -> int:
        """Sequences of one optimizer step, over all processes."""
        return self.batch * self.accumulate


# Fields that may differ between a checkpoint and its resumption: how long, and how often to save.
SAVING = frozenset({"saveMinutes", "saveEvery", "keep"})
# None of them moves a weight; recomputing activations gives the same ones.
FREE = SAVING | {
    "steps",
    "minutes",
    "heldOut",
    "heldOutTokens",
    "validateEvery",
    "spike",
    "patience",
    "recompute",
    "texts",  # what they change shows in the digest of the corpus
}


@dataclass(frozen=True)
class Job:
    """One training run.

    model: checkpoint to start from, with the contract attached. base: the directory that the config
    names, for the card and for what was trained before. out: the checkpoint to write. root: where
    the globs of ``data`` start. attention: ``segmented``, or ``full`` for the control (stock, and
    no contract is written). resume: continue from ``out``. overwrite: replace what is in ``out``.
    plot: PNG to keep up to date. logs: folder for JSONL and TensorBoard. processes: ranks on this
    machine. shard: share the layers' weights out over them.
    """

    model: Path
    base: Path
    out: Path
    root: Path
    attention: str
    resume: bool
    overwrite: bool
    device: str
    plot: Path | None
    logs: Path | None
    processes: int
    shard: bool
    training: Settings


def read_job(raw: dict[str, Any]) -> Job:
    """Job of ``raw``. Raises LS_TRAIN_SETTINGS with the field that does not fit."""
    known = {f.name for f in fields(Job)}
    _same_names("job", known, raw)
    settings = raw["training"]
    _same_names("training", {f.name for f in fields(Settings)}, settings)
    if raw["attention"] not in ATTENTION:
        raise LockstepError(
            "LS_TRAIN_SETTINGS",
            f"expected attention to be one of {', '.join(ATTENTION)}, got {raw['attention']}",
        )
    if (settings["steps"] is None) == (settings["minutes"] is None):
        raise LockstepError(
            "LS_TRAIN_SETTINGS",
            "expected exactly one of training.steps and training.minutes, got "
            + ("neither" if settings["steps"] is None else "both"),
            "Give --steps N or --minutes X.",
        )
    if raw["shard"] and raw["processes"] < 2:
        raise LockstepError(
            "LS_TRAIN_PROCESSES",
            "--shard needs --nproc of at least 2, got 1",
            "Give --nproc N, or leave out --shard.",
        )
    if raw["processes"] > settings["batch"] * settings["accumulate"]:
        raise LockstepError(
            "LS_TRAIN_PROCESSES",
            f"expected at most as many processes as sequences in an optimizer step "
            f"({settings['batch']} x {settings['accumulate']}), got {raw['processes']}",
            "Raise training.accumulate or training.batch, or lower --nproc.",
            "training.accumulate",
        )
    if raw["shard"] and settings["dpo"] is not None:
        raise LockstepError(
            "LS_TRAIN_PROCESSES",
            "expected whole weights in every process, as training.dpo runs each answer by itself, "
            "got --shard",
            "Leave out --shard.",
        )
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    if given["lora"] is not None:
        _same_names("training.lora", {f.name for f in fields(Lora)}, given["lora"])
        given["lora"] = Lora(**{**given["lora"], "modules": tuple(given["lora"]["modules"])})
    if given["dpo"] is not None:
        _same_names("training.dpo", {f.name for f in fields(Dpo)}, given["dpo"])
        given["dpo"] = Dpo(**given["dpo"])
    _same_names("training.texts", {f.name for f in fields(TextOptions)}, given["texts"])
    given["texts"] = TextOptions(**{**given["texts"], "recall": _recall(given["texts"]["recall"])})
    return Job(
        model=Path(raw["model"]),
        base=Path(raw["base"]),
        out=Path(raw["out"]),
        root=Path(raw["root"]),
        attention=raw["attention"],
        resume=bool(raw["resume"]),
        overwrite=bool(raw["overwrite"]),
        device=raw["device"],
        plot=Path(raw["plot"]) if raw["plot"] else None,
        logs=Path(raw["logs"]) if raw["logs"] else None,
        processes=raw["processes"],
        shard=bool(raw["shard"]),
        training=Settings(**given),
    )


def _recall(given: dict[str, Any] | None) -> RecallRows | None:
    if given is None:
        return None
    _same_names("training.texts.recall", {f.name for f in fields(RecallRows)}, given)
    return RecallRows(**{**given, "lengths": tuple(given["lengths"])})


def _same_names(where: str, expected: set[str], got: dict[str, Any]) -> None:
    missing, unknown = sorted(expected - got.keys()), sorted(got.keys() - expected)
    if missing or unknown:
        raise LockstepError(
            "LS_TRAIN_SETTINGS",
            f"expected every field of {where} once, got missing [{', '.join(missing)}] and "
            f"unknown [{', '.join(unknown)}]",
        )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """``field: old -> new`` for every setting that must not change on resumption, sorted.

    The sequences of a step may be split otherwise (what LS_TRAIN_MEMORY proposes): the same
    objective, summed in another order.
    """
    names = sorted((old.keys() | new.keys()) - FREE)
    parts = ("batch", "accumulate")
    if all(key in side for side in (old, new) for key in parts) and (
        old["batch"] * old["accumulate"] == new["batch"] * new["accumulate"]
    ):
        names = [name for name in names if name not in parts]
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in names
        if old.get(name) != new.get(name)
    ]
