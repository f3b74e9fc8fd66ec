"""Imports in python/lockstep go one way (AGENTS.md): no circle, no folder uses one above it."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import lockstep

PACKAGE = Path(lockstep.__file__).parent

#: From the bottom up; what stands in one line may use each other.
ORDER = [
    {"collector", "deferred", "errors", "json_text", "install"},
    {"bridge"},
    {"contract", "tokenizer", "weights"},
    {"operator", "retrieval"},
    {"chat", "needles", "loader"},
    {"verification", "baseline"},
    {"training"},
    {"transformers"},
    {"engine", "export", "lm_eval", "train", "trl", "vllm"},
    {"evaluation"},
]


def name_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in PACKAGE.rglob("*.py")}


def imports_of(name: str, lazy: bool) -> set[str]:
    """Modules of ours that ``name`` imports; ``lazy``: within functions, too."""
    tree = ast.parse(FILES[name].read_text("utf-8"))
    package = name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(up if node.level else []), *([node.module] if node.module else [])])
            whole = {f"{base}.{alias.name}" for alias in node.names}
            found |= {one if one in FILES else base for one in whole}
    return {one for one in found if one == "lockstep" or one.startswith("lockstep.")}


def floor(name: str) -> int:
    top = [*name.split("."), ""][1]
    return next((i for i, names in enumerate(ORDER) if top in names), -1)


def test_all_imports_are_found() -> None:
    assert len(FILES) > 150
    for name in FILES:
        assert imports_of(name, lazy=True) <= set(FILES), name


def test_no_circle() -> None:
    graphlib.TopologicalSorter({name: imports_of(name, lazy=False) for name in FILES}).prepare()


def test_each_folder_uses_only_what_is_below_it() -> None:
    modules = [name for name in FILES if name != "lockstep"]
    assert [name for name in modules if floor(name) < 0] == []
    upward = [
        f"{name} uses {other}"
        for name in modules
        for other in imports_of(name, lazy=True)
        if floor(other) > floor(name)
    ]
    assert upward == []
