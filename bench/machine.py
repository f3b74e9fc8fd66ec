"""What every raw result carries: the machine, the date, the command, the versions."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

RAW = Path(__file__).resolve().parent / "raw"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def header(command: str) -> dict[str, object]:
    import torch
    import transformers

    # A bare machine with a GPU may have no git.
    head = (
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            cwd=RAW.parent,
        ).stdout
        if shutil.which("git")
        else ""
    )
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        # The vector instructions decide as much as the name does: which kernels run, and how fast.
        "machine": f"{cpu_name()} ({torch.backends.cpu.get_cpu_capability()}), "
        f"{os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": head.strip(),
    }


def write_raw(name: str, result: dict[str, object]) -> Path:
    RAW.mkdir(parents=True, exist_ok=True)
    path = RAW / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path
