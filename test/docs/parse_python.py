"""Parses a JSON list of Python texts on stdin; prints for each what is wrong with it, or null."""

from __future__ import annotations

import ast
import json
import sys
import textwrap


def problem(text: str) -> str | None:
    try:
        compile(textwrap.dedent(text), "text", "exec", ast.PyCF_ONLY_AST)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    return None


if __name__ == "__main__":
    json.dump([problem(text) for text in json.load(sys.stdin)], sys.stdout)
