"""How this Lockstep was installed: its version, and what a hint has to tell its user to run."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

_PACKAGE = Path(__file__).parents[2] / "package.json"


def version() -> str:
    """Of package.json, the one place where it stands, or of the wheel that was made from it."""
    try:
        package = json.loads(_PACKAGE.read_text("utf-8"))
        if package["name"] == "lockstep":
            return str(package["version"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return metadata.version("lockstep")


def install(extra: str) -> str:
    """The command that installs what ``extra`` of pyproject.toml lists, for where this one is: a
    clone has a set-up of its own, the npm package holds the Python half. A wheel was made from
    that half, and its name on an index is not this project: the command is for the folder in which
    npm installed Lockstep."""
    if (_PACKAGE.parent / "scripts" / "setup.mjs").is_file():
        option = {"vllm": " -- --vllm", "eval": " -- --tools", "trl": " -- --tools"}.get(extra, "")
        return f"npm run setup{option}"
    half = str(Path(__file__).parents[1])
    if not (Path(half) / "pyproject.toml").is_file():
        half = "./node_modules/lockstep/python"
    return f'python -m pip install "{half}[{extra}]" -c "{half}/constraints.txt"'
