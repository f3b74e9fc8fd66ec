"""The checkpoints of a training: `out`, the newest, and the older ones next to it.

`out.step-120` is what `out` was after step 120; `--keep N` says how many there are in all. Each is
whole at every moment: a name that a user can see is only ever given to, or taken from, a directory
that is complete.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.training import manifest, progress, sidecar_files
from lockstep.training.atomic import check_writable, discard, refuse, sibling, sync
from lockstep.training.settings import SAVING, Job

# Of a checkpoint, what every save copies again from the base model or writes for people to read.
IGNORED = frozenset({*sidecar_files.NAMES, "README.md"})


def recover(job: Job, emit: Callable[..., None]) -> Job:
    """Bring the place of ``job.out`` into order before a training begins or continues.

    What a crash left of a save is finished or removed. On resumption `out` is then a whole
    checkpoint: where it is damaged or missing, the newest good older one takes its place, and the
    event ``fallback`` says so. Returns the job with links in ``out`` followed and ``keep`` filled
    in: what is not said on resumption stays as it was. May itself be interrupted at any moment.

    Raises LS_TRAIN_OUT where ``out`` holds what must not be replaced, LS_TRAIN_RESUME where no good
    checkpoint is left, LS_TRAIN_WRITE and LS_TRAIN_DISK where a checkpoint could not be saved.
    """
    out = job.out.resolve()  # behind a link, so that names are swapped on the disk that holds them
    try:
        _take_back(out)
        _finish_save(out, _keep(job, out))
        if job.resume:
            _choose(out, emit)
        else:
            _refuse_to_replace(out, job.overwrite)
        keep = _keep(job, out)
    except OSError as error:
        refuse(error, out)
        raise
    check_writable(out)
    return replace(job, out=out, training=replace(job.training, keep=keep))


def older(out: Path) -> list[tuple[int, Path]]:
    """(step, directory) of the older checkpoints beside ``out``, newest first."""
    pattern = re.compile(re.escape(out.name) + r"\.step-(\d+)")
    names = os.listdir(out.parent) if out.parent.is_dir() else []
    found = [(int(m.group(1)), out.parent / m.group(0)) for m in map(pattern.fullmatch, names) if m]
    return sorted(((k, p) for k, p in found if (p / progress.STATE).is_file()), reverse=True)


def archive(old: Path, out: Path, keep: int) -> None:
    """Keep ``old``, which ``out`` has just replaced, as an older checkpoint; remove the surplus."""
    step, newest = _step(old), _step(out)
    if keep > 1 and step is not None and newest is not None and step < newest:
        place = out.parent / f"{out.name}.step-{step}"
        _remove(place, out)
        os.rename(old, place)
        sync(out.parent)
    else:
        discard(old)
    prune(out, keep)


def prune(out: Path, keep: int) -> None:
    """Remove older checkpoints beyond ``keep`` in all, and what is not older than ``out``."""
    newest = _step(out)
    if newest is None:
        return
    past = [path for k, path in older(out) if k < newest]
    for _, path in older(out):
        if path not in past[: keep - 1]:
            _remove(path, out)


def delete(old: Path, out: Path) -> None:
    """Remove all that an earlier training left, of which ``old`` was the newest checkpoint."""
    discard(old)
    for _, path in older(out):
        _remove(path, out)


def _take_back(out: Path) -> None:
    """Give ``out`` its name back where a crash came between the two renames of a swap."""
    old = sibling(out, "old")
    if old.is_dir() and not out.exists():
        os.rename(old, out)


def _finish_save(out: Path, keep: int) -> None:
    discard(sibling(out, "gone"))
    for left in (sibling(out, "old"), sibling(out, "new")):
        if not left.is_dir():
            continue
        whole = out.exists() and not manifest.damaged(left, IGNORED)
        if whole and manifest.damaged(out, IGNORED):
            # The swap was done, and what it put in place has been damaged since: fall back to it.
            os.rename(left, out.parent / f"{out.name}.step-{_step(left)}")
        # After the swap, and only then, it is the previous checkpoint of the same training.
        elif whole and keep > 1 and _same_training(left, out):
            archive(left, out, keep)
        else:
            discard(left)


def _choose(out: Path, emit: Callable[..., None]) -> None:
    """Make ``out`` the newest good checkpoint."""
    found = ([out] if out.exists() else []) + [path for _, path in older(out)]
    _refuse_strangers(out)
    if not any((path / progress.STATE).is_file() for path in found):
        progress.read_state(out)  # says that there is nothing to continue from
    wrong: list[dict[str, Any]] = []
    for path in found:
        problems = manifest.damaged(path, IGNORED)
        if not problems:
            break
        wrong.append({"path": str(path), "problems": problems})
    else:
        progress.read_state(found[0])  # says it where only its version is another
        said = "; ".join(f"{w['path']}: {', '.join(w['problems'])}" for w in wrong)
        raise LockstepError(
            "LS_TRAIN_RESUME",
            f"expected an intact checkpoint to resume from, got {said}",
            "Restore the files from a copy, or start over with --overwrite; --keep 2 keeps an "
            "older checkpoint to fall back to.",
        )
    if path == out:
        return
    aside = None
    if out.exists():
        aside = out.parent / f"{out.name}.damaged"
        _remove(aside, out)
        os.rename(out, aside)
    os.rename(path, out)
    sync(out.parent)
    emit(
        "fallback",
        path=str(path),
        step=_step(out),
        damaged=wrong,
        aside=None if aside is None else str(aside),
    )


def _remove(directory: Path, out: Path) -> None:
    """Take the name away first, so that no directory with a name is ever half removed."""
    if not directory.exists():
        return
    gone = sibling(out, "gone")
    discard(gone)
    os.rename(directory, gone)
    discard(gone)


def _same_training(a: Path, b: Path) -> bool:
    """True where both directories are checkpoints of one training: all but its progress agrees."""
    try:
        states = [progress.read_state(directory) for directory in (a, b)]
    except LockstepError:
        return False
    for state in states:
        del state["progress"]
        state["settings"] = {k: v for k, v in state["settings"].items() if k not in SAVING}
    return bool(states[0] == states[1])


def _keep(job: Job, out: Path) -> int:
    """How many checkpoints stay: as the job says, or on resumption as ``out`` says, or one."""
    before = None
    if job.resume:
        with contextlib.suppress(LockstepError, KeyError, TypeError, ValueError):
            before = progress.read_state(out)["settings"]["keep"]
    return job.training.keep or before or 1


def _step(directory: Path) -> int | None:
    try:
        return int(progress.read_state(directory)["progress"]["step"])
    except (LockstepError, KeyError, TypeError, ValueError):
        return None


def _refuse_to_replace(out: Path, overwrite: bool) -> None:
    """Raise LS_TRAIN_OUT where a new training would replace what it must not."""
    _refuse_strangers(out)
    there = ([out] if _entries(out) else []) + [path for _, path in older(out)]
    if there and not overwrite:
        raise LockstepError(
            "LS_TRAIN_OUT",
            f"expected no checkpoint at {out}, got {', '.join(map(str, there))}",
            "Continue with --resume, replace it with --overwrite, or choose another `out`.",
            "out",
        )


def _refuse_strangers(out: Path) -> None:
    ours = any((out / name).is_file() for name in (progress.STATE, "lockstep.json", manifest.SUMS))
    if _entries(out) and not ours:
        raise LockstepError(
            "LS_TRAIN_OUT",
            f"expected {out} to be absent, empty or a checkpoint of Lockstep, got other files",
            "Choose another `out`.",
            "out",
        )


def _entries(out: Path) -> bool:
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))
