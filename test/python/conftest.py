"""For all tests in Python: the package, and one checkpoint with a contract, made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
