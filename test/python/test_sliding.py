"""Sliding windows: attach and load judge alike, and as transformers lets a layer slide."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import pytest
import torch
from lockstep.errors import LockstepError
from tiny import tiny

ROOT = Path(__file__).parents[2]
CONFIG = """
import { defineConfig, fixed } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: fixed(), segment: { max: 16 }, carry: { size: 4 },
});
"""


def model(folder: Path, architecture: str, **fields: Any) -> None:
    """A tiny model with a tokenizer; ``...`` takes a field away."""
    made = make_tiny.tokenizer()
    size = made.get_vocab_size()
    tiny(architecture, vocabulary=size, dtype=torch.float32).save_pretrained(folder / "model")
    made.save(str(folder / "model" / "tokenizer.json"))
    edit(folder / "model", **fields)
    (folder / "lockstep.config.ts").write_text(CONFIG)


def edit(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8")) | fields
    kept = {name: value for name, value in config.items() if value is not ...}
    file.write_text(json.dumps(kept), "utf-8")


def attach(folder: Path) -> subprocess.CompletedProcess[str]:
    cli = [shutil.which("node") or "node", str(ROOT / "dist" / "cli" / "main.js")]
    command = [*cli, "attach", "model", "--out", "attached"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"sliding_window": 4096, "use_sliding_window": ..., "layer_types": ...},
        {
            "sliding_window": 8,
            "use_sliding_window": True,
            "max_window_layers": 3,
            "layer_types": ...,
        },
    ],
)
def test_a_qwen2_of_which_no_layer_slides(tmp_path: Path, fields: dict[str, Any]) -> None:
    model(tmp_path, "qwen2", **fields)
    assert attach(tmp_path).returncode == 0
    loaded = lockstep.load(tmp_path / "attached")
    assert loaded.config.layer_types == ["full_attention"] * 3


def test_a_mistral_that_does_not_say(tmp_path: Path) -> None:
    model(tmp_path, "mistral", sliding_window=...)
    refused = attach(tmp_path)
    assert refused.returncode == 1
    assert "LS_MODEL_UNSUPPORTED" in refused.stderr
    assert '"sliding_window": null' in refused.stderr
    edit(tmp_path / "model", sliding_window=None)
    assert attach(tmp_path).returncode == 0
    lockstep.load(tmp_path / "attached")
    edit(tmp_path / "attached", sliding_window=...)
    with pytest.raises(LockstepError) as caught:
        lockstep.load(tmp_path / "attached")
    assert (caught.value.code, caught.value.field) == ("LS_MODEL_UNSUPPORTED", "sliding_window")
