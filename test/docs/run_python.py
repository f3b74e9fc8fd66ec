"""Checks or runs Python texts: stdin is a JSON list of {text, run, folder}.

The last line printed is a JSON list of what is wrong with each, or null. A text that begins with
its file's name is a module: it is imported, not run as a program.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from typing import Any

NAMES: dict[str, Any] = {"ids": [1, 2, 3]}
"""What pages take for granted."""


def problem(block: dict[str, Any]) -> str | None:
    text = textwrap.dedent(block["text"])
    try:
        code = compile(text, "text", "exec")
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    if not block["run"]:
        return None
    os.chdir(block["folder"])
    name = "module" if text.startswith("# ") else "__main__"
    try:
        exec(code, {"__name__": name, **NAMES})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    found = [problem(block) for block in json.load(sys.stdin)]
    print("\n" + json.dumps(found))
