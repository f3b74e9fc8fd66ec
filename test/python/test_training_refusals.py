"""What a training refuses, and what it says when memory runs out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import make_tiny
import pytest
from lockstep.errors import LockstepError
from lockstep.training.preflight import chance_warning, check_model

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny.write(tmp_path_factory.mktemp("refusals") / "base")


def refused(base: Path, copy: Path, **config: Any) -> LockstepError:
    shutil.copytree(base, copy)
    path = copy / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(LockstepError) as caught:
        check_model(copy)
    return caught.value


def test_a_model_that_segments_can_run_passes(base: Path) -> None:
    check_model(base)


@pytest.mark.parametrize(
    ("config", "code", "word"),
    [
        ({"model_type": "bert"}, "LS_MODEL_ARCHITECTURE", "bert"),
        ({"model_type": "t5"}, "LS_MODEL_ARCHITECTURE", "t5"),
        ({"model_type": "mistral", "sliding_window": 64}, "LS_MODEL_SLIDING", "64"),
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "LS_ROPE_SCALING",
            "dynamic",
        ),
        ({"model_type": "no-such-model"}, "LS_MODEL_LOAD", "no-such-model"),
        ({"vocab_size": 200}, "LS_TRAIN_VOCABULARY", "263"),
    ],
    ids=["encoder", "encoder-decoder", "sliding", "dynamic-rope", "unknown", "tokenizer"],
)
def test_what_cannot_be_trained_is_refused_before_any_text_is_read(
    base: Path, tmp_path: Path, config: dict[str, Any], code: str, word: str
) -> None:
    error = refused(base, tmp_path / "copy", **config)
    assert error.code == code and word in error.message and "expected" in error.message


def test_a_first_loss_worse_than_guessing_is_said() -> None:
    assert chance_warning(5.0, 264) is None
    said = chance_warning(9.0, 264)
    assert said is not None and "tokenizer" in said and "5.58" in said


def test_out_of_memory_names_a_setting_that_fits(base: Path) -> None:
    """It does fit: the same sequences, under the same limit."""
    out = subprocess.run(
        [sys.executable, HERE / "memory_case.py", base.parent],
        capture_output=True,
        text=True,
        env={"PATH": "", "PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert out.returncode == 0, out.stderr[-2000:]
    said = json.loads(out.stdout.splitlines()[-1])
    assert said["error"]["code"] == "LS_TRAIN_MEMORY"
    assert "training.batch 32" in said["error"]["message"]
    changes = said["changes"]
    assert changes and changes.get("batch", 32) * changes.get("accumulate", 1) == 32
    assert said["tokens"] == 32 * 1024 and 0 < said["loss"] < 20
