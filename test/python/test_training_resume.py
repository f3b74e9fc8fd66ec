"""Trainings that are interrupted and resumed, that may not be, and that fail: what stays."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from lockstep.training import progress
from training_run import Run, refusal, same, weights


@pytest.mark.parametrize("attention", ["segmented", "full"])
def test_interrupted_and_resumed_gives_the_same_weights(
    home: Path, tmp_path: Path, attention: str
) -> None:
    whole = Run(home, tmp_path / "whole", attention=attention)
    first = Run(home, tmp_path / "parts", attention=attention, stop_after=2)
    assert first.result["stopped"] is True and first.result["step"] == 2
    second = Run(home, tmp_path / "parts", attention=attention, resume=True, stop_after=1)
    third = Run(home, tmp_path / "parts", attention=attention, resume=True)
    assert first.losses + second.losses + third.losses == whole.losses
    assert same(tmp_path / "whole", tmp_path / "parts")
    assert third.result["tokens"] == whole.result["tokens"]
    assert not list(tmp_path.glob(".*"))


def test_a_finished_training_resumed_does_nothing(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", steps=2)
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    again = Run(home, tmp_path / "out", steps=2, resume=True)
    assert again.losses == [] and again.result["stopped"] is False
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_another_contract_is_refused_with_the_fields_that_differ(
    home: Path, tmp_path: Path
) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    error = refusal(home, tmp_path / "out", resume=True, model=str(home / "other"))
    assert error.code == "LS_TRAIN_CONTRACT"
    assert "segment.max 32 -> 40" in error.message and "policy" not in error.message


def test_other_settings_are_refused_but_not_a_longer_budget(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    error = refusal(home, tmp_path / "out", resume=True, learningRate=1.0, batch=1)
    assert error.code == "LS_TRAIN_RESUME"
    assert "batch: 2 -> 1; learningRate: 0.003 -> 1.0" in error.message
    assert Run(home, tmp_path / "out", resume=True, steps=7).result["step"] == 7


def test_nothing_to_resume_and_nothing_to_overwrite(home: Path, tmp_path: Path) -> None:
    assert refusal(home, tmp_path / "none", resume=True).code == "LS_TRAIN_RESUME"
    Run(home, tmp_path / "out", steps=1)
    assert refusal(home, tmp_path / "out", steps=1).code == "LS_TRAIN_OUT"
    assert Run(home, tmp_path / "out", steps=1, overwrite=True).result["step"] == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    assert refusal(home, tmp_path / "mine", overwrite=True).code == "LS_TRAIN_OUT"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "dear"


def test_a_damaged_optimizer_file_is_named(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=1)
    (tmp_path / "out" / progress.OPTIMIZER).write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    error = refusal(home, tmp_path / "out", resume=True)
    assert error.code == "LS_TRAIN_RESUME" and "optimizer" in error.message


def test_nan_stops_and_the_last_good_checkpoint_stays(home: Path, tmp_path: Path) -> None:
    """A real one: a learning rate that throws the weights out of float32's range."""
    Run(home, tmp_path / "out", stop_after=1, learningRate=1e30, clip=0)
    good = weights(tmp_path / "out")
    error = refusal(home, tmp_path / "out", learningRate=1e30, clip=0, resume=True)
    assert error.code == "LS_TRAIN_NAN" and "last good checkpoint" in error.message + (
        error.fix or ""
    )
    now = weights(tmp_path / "out")
    assert all(torch.equal(good[n], now[n]) for n in good)


def test_weights_that_became_infinite_in_the_last_step_are_not_saved(
    home: Path, tmp_path: Path
) -> None:
    error = refusal(home, tmp_path / "out", steps=1, learningRate=1e39, warmup=0.0, clip=0)
    assert error.code == "LS_TRAIN_NAN" and not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "out", stop_after=2)
    good = weights(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        error = refusal(home, tmp_path / "out", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.code == "LS_TRAIN_DISK"
    assert all(torch.equal(t, good[n]) for n, t in weights(tmp_path / "out").items())
    assert os.listdir(tmp_path) == ["out"]
    whole = Run(home, tmp_path / "whole")
    assert Run(home, tmp_path / "out", resume=True).losses == whole.losses[2:]
