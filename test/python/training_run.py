"""One call of the trainer on a tiny model and real text, for the tests of trainings."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_tiny
import pytest
import torch
from lockstep.errors import LockstepError
from lockstep.training import loop
from lockstep.training.settings import read_job
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
import {{ defineConfig, sentences }} from 'lockstep';
export default defineConfig({{
  model: './base', out: './out', policy: sentences(), segment: {{ min: 8, max: {most} }},
  carry: {{ size: 8, sinks: 4 }}, retrieval: {{ size: 8, layers: [1, 2] }}, heads: {{ long: [1] }},
}});
"""
SETTINGS: dict[str, Any] = {
    "data": ["text.txt"],
    "heldOut": None,
    "texts": {
        "format": "auto",
        "field": "text",
        "loss": "assistant",
        "end": None,
        "long": "cut",
        "pack": None,
        "skipBroken": False,
        "cache": None,
        "workers": 0,
        "heldOutDocuments": 64,
        "recall": None,
    },
    "heldOutTokens": 128,
    "truncation": 1,
    "sequence": 96,
    "batch": 2,
    "accumulate": 1,
    "learningRate": 3e-3,
    "schedule": "cosine",
    "warmup": 0.1,
    "finalRate": 0.1,
    "weightDecay": 0.01,
    "clip": 1.0,
    "trainable": "all",
    "lora": None,
    "dpo": None,
    "precision": "float32",
    "recompute": False,
    "seed": 1,
    "steps": 6,
    "minutes": None,
    "saveMinutes": 10,
    "saveEvery": None,
    "keep": None,
    "validateEvery": None,
    "spike": 2.0,
    "patience": 16,
}


def make_home(home: Path) -> Path:
    """A folder with a text, a tiny model, and two checkpoints of it that differ in segment.max."""
    torch.set_num_threads(1)
    shutil.copyfile(ROOT / "LICENSE", home / "text.txt")
    make_tiny.write(home / "base")
    for name, most in (("start", 32), ("other", 40)):
        (home / "lockstep.config.ts").write_text(CONFIG.format(most=most))
        command = ["node", ROOT / "dist/cli/main.js", "attach", home / "base"]
        command += ["--config", home / "lockstep.config.ts", "--out", home / name]
        subprocess.run(command, check=True, capture_output=True)
    return home


class Run:
    """One call of the trainer; what it reported is in ``events`` and ``result``."""

    def __init__(
        self,
        home: Path,
        out: Path,
        stop_after: int | None = None,
        between: Callable[[Run], None] = lambda run: None,
        **options: Any,
    ):
        """``between`` is called before the first step and after each one."""
        self.events: list[dict[str, Any]] = []
        changed = {k: options.pop(k) for k in list(options) if k in SETTINGS}
        job: dict[str, Any] = {
            "model": str(home / "start"),
            "base": str(home / "base"),
            "out": str(out),
            "root": str(home),
            "attention": "segmented",
            "resume": False,
            "overwrite": False,
            "device": "cpu",
            "plot": None,
            "logs": None,
            "processes": 1,
            "shard": False,
            "training": {**SETTINGS, **changed},
        }

        def emit(event: str, **fields: Any) -> None:
            self.events.append({"event": event, **fields})

        def cancelled() -> bool:
            between(self)
            return stop_after is not None and len(self.named("step")) >= stop_after

        self.training = loop.Training(read_job({**job, **options}), emit, cancelled)
        self.result = self.training.run()

    def named(self, name: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == name]

    @property
    def losses(self) -> list[float]:
        return [e["loss"] for e in self.named("step")]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    left, right = weights(a), weights(b)
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


def refusal(home: Path, out: Path, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        Run(home, out, **options)
    return caught.value
