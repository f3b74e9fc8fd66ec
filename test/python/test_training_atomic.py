"""A checkpoint directory is the old one or the new one, also on a full disk or after a crash."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lockstep.errors import LockstepError
from lockstep.training import atomic

ROOT = Path(__file__).resolve().parents[2]


def fill(text: str):
    def write(directory: Path) -> None:
        (directory / "sub").mkdir()
        (directory / "sub" / "file").write_text(text)

    return write


def content(directory: Path) -> str:
    return (directory / "sub" / "file").read_text()


@pytest.mark.parametrize("exchange", [True, False])
def test_the_new_directory_replaces_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    target = tmp_path / "deep" / "model"
    for text in ("one", "two", "three"):
        atomic.replace_directory(target, fill(text))
        assert content(target) == text
    assert os.listdir(target.parent) == ["model"]


def test_a_failing_write_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    atomic.replace_directory(target, fill("good"))

    def broken(directory: Path) -> None:
        fill("bad")(directory)
        raise ValueError("no such tensor")

    with pytest.raises(ValueError, match="no such tensor"):
        atomic.replace_directory(target, broken)
    assert content(target) == "good" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_named(tmp_path: Path, error: Exception) -> None:
    target = tmp_path / "model"
    atomic.replace_directory(target, fill("good"))

    def full(directory: Path) -> None:
        raise error

    with pytest.raises(LockstepError) as caught:
        atomic.replace_directory(target, full)
    assert caught.value.code == "LS_TRAIN_DISK" and "--resume" in (caught.value.fix or "")
    assert content(target) == "good" and os.listdir(tmp_path) == ["model"]


def test_an_error_that_only_looks_like_one_is_not_a_full_disk() -> None:
    assert not atomic.is_full(RuntimeError("size 28"))
    assert not atomic.is_full(OSError(errno.EACCES, "Permission denied"))


def test_a_real_write_error_of_safetensors_is_a_full_disk(tmp_path: Path) -> None:
    """A process's file-size limit stands in for a full disk; the error comes from the kernel."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(ROOT / "python")!r})
import torch
from pathlib import Path
from safetensors.torch import save_file
from lockstep.errors import LockstepError
from lockstep.training.atomic import replace_directory
target = Path({str(tmp_path / "model")!r})
replace_directory(target, lambda d: (d / "old").write_text("old"))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    replace_directory(target, lambda d: save_file({{"a": torch.zeros(65536)}}, d / "a.safetensors"))
except LockstepError as error:
    print(error.code, sorted(p.name for p in target.iterdir()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "LS_TRAIN_DISK ['old']"
