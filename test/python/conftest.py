"""For all tests in Python: the package, a Python that starts fast, and a checkpoint, made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "python"))

CONFIG = """
import { defineConfig, sentences } from 'lockstep';
export default defineConfig({
  model: 'model', out: 'out', policy: sentences(),
  segment: { min: 4, max: 48 }, carry: { size: 8 },
  retrieval: { size: 8, layers: [1, 2] }, heads: { long: [1] },
});
"""


@pytest.fixture(scope="session", autouse=True)
def real_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The interpreter of the tests. As ``sys.executable`` they start forks of one that has imported
    PyTorch (``test/warm``); where a fork will not do, this one."""
    real = sys.executable
    if sys.platform != "linux":
        yield real
        return
    folder = tmp_path_factory.mktemp("warm")
    telemetry = json.loads((ROOT / "python" / "lockstep" / "no_telemetry.json").read_text())
    path = os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(
        [real, str(ROOT / "test" / "warm" / "server.py"), str(folder)],
        # As the command line starts Python (src/bridge/python.ts).
        env={
            **{"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **telemetry},
            **{"PYTHONPATH": path, "PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None and server.stdout.readline() == b"ready\n"
    warm = str(folder / "python")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", warm)
        patch.setenv("PYTHON_BIN", warm)  # for the command line, which starts Python itself
        yield real
    server.communicate()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with a contract, which no test changes; ``model`` beside it has none."""
    import make_tiny  # imports torch, which few tests here go without

    folder = tmp_path_factory.mktemp("contract")
    make_tiny.write(folder / "model")
    (folder / "lockstep.config.ts").write_text(CONFIG)
    cli = [shutil.which("node") or "node", str(ROOT / "dist" / "cli" / "main.js")]
    subprocess.run([*cli, "attach", "model", "--out", "attached"], cwd=folder, check=True)
    return folder / "attached"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For trainings: a text, a tiny model, and two checkpoints of it, which no test changes."""
    from training_run import make_home  # imports torch

    return make_home(tmp_path_factory.mktemp("training"))
