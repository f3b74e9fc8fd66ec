"""Reads Python files for `test/docs/source-model.ts`: functions, calls, places that make errors.

Arguments: the folder, then the name to show for it. Prints a JSON list, one model a file.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = {"kind": "unknown"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CODE = re.compile(r"LS_[A-Z0-9_]+\Z")


def read(file: Path, shown: str) -> dict[str, Any]:
    model: dict[str, Any] = {
        "path": shown,
        "constants": {},
        "imports": {},
        "functions": [],
        "calls": [],
        "sites": [],
    }
    visit(ast.parse(file.read_text(encoding="utf-8")), -1, model)
    return model


def visit(node: ast.AST, inside: int, model: dict[str, Any]) -> None:
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            source = (node.module or "").rsplit(".", 1)[-1]
            model["imports"][alias.asname or alias.name] = {"name": alias.name, "from": source}
    if isinstance(node, FUNCTIONS):
        names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        params = [arg.arg for arg in names if arg.arg not in ("self", "cls")]
        name = "" if isinstance(node, ast.Lambda) else node.name
        own = {"name": name, "params": params, "defaults": defaults(node.args)}
        model["functions"].append(own | {"locals": {}, "parent": inside})
        inside = len(model["functions"]) - 1
    if isinstance(node, ast.Assign):
        for target in node.targets:
            note(target, node.value, inside, model)
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        note(node.target, node.value, inside, model)
    elif isinstance(node, ast.Call):
        note_call(node, inside, model)
    elif isinstance(node, ast.Dict):
        note_fixes(node, inside, model)
    elif isinstance(node, ast.Tuple | ast.List) and len(node.elts) >= 2:
        code, message, *rest = (expression(element) for element in node.elts)
        if is_code(code) and not is_code(message):
            fix = {"fix": rest[0]} if rest else {}
            model["sites"].append({"code": code, "message": message, "inside": inside} | fix)
    for child in ast.iter_child_nodes(node):
        visit(child, inside, model)


def defaults(given: ast.arguments) -> dict[str, Any]:
    """Parameters that a call may leave out, each with what it is then."""
    names = [*given.posonlyargs, *given.args]
    pairs = [*zip(names[len(names) - len(given.defaults) :], given.defaults, strict=True)]
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    pairs += [(name, value) for name, value in named if value is not None]
    return {name.arg: expression(value) for name, value in pairs}


def note_call(node: ast.Call, inside: int, model: dict[str, Any]) -> None:
    args = [expression(arg) for arg in node.args]
    named = {word.arg: expression(word.value) for word in node.keywords if word.arg}
    callee = name_of(node.func)
    warns: dict[str, Any] = {}
    model["calls"].append({"callee": callee, "args": args, "named": named, "inside": inside})
    if callee == "LockstepError":
        given = dict(zip(("code", "message", "fix"), args, strict=False)) | named
    elif is_code(named.get("code")):
        given = named
        warns = {"warns": True}
    elif callee in ("RefusedValue", "RefusedFeature"):
        # In vllm/unsupported.py; vllm/checks.py makes the error.
        field, what, fix = args[:3]
        if callee == "RefusedValue":
            words = [text("expected "), field, text(" to be "), what, text(", got "), UNKNOWN]
        else:
            words = [what, text(" ("), field, text(") is not supported with segments")]
        given = {"code": text("LS_VLLM_FEATURE"), "message": {"kind": "parts", "of": words}}
        given["fix"] = fix
    else:
        return
    if "code" in given:
        site = {"code": given["code"], "inside": inside} | warns
        site |= {key: given[name] for name, key in FIELDS if name in given}
        model["sites"].append(site)


FIELDS = (("message", "message"), ("fix", "fix"))


def note_fixes(node: ast.Dict, inside: int, model: dict[str, Any]) -> None:
    """Tables of fixes by code."""
    for key, value in zip(node.keys, node.values, strict=True):
        code, fix = expression(key), expression(value)
        if is_code(code) and fix["kind"] in ("text", "parts"):
            model["sites"].append({"code": code, "fix": fix, "inside": inside})


def note(target: ast.AST, value: ast.AST, inside: int, model: dict[str, Any]) -> None:
    if not isinstance(target, ast.Name):
        return
    if inside == -1:
        model["constants"][target.id] = expression(value)
    else:
        model["functions"][inside]["locals"].setdefault(target.id, []).append(expression(value))


def expression(node: ast.AST | None) -> dict[str, Any]:
    match node:
        case ast.Constant(value=str(value)):
            return text(value)
        case ast.JoinedStr(values=values):
            return {"kind": "parts", "of": [expression(value) for value in values]}
        case ast.FormattedValue(value=value):
            return expression(value)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return {"kind": "parts", "of": [expression(left), expression(right)]}
        case ast.IfExp(body=body, orelse=other):
            return {"kind": "either", "of": [expression(body), expression(other)]}
        case ast.BoolOp(values=values):
            return {"kind": "either", "of": [expression(value) for value in values]}
        case ast.Name(id=name):
            return {"kind": "name", "name": name}
        case ast.Call(func=ast.Name(id="install"), args=[ast.Constant(value=str(extra))]):
            return text(installing(extra))
        case ast.Subscript(value=value, slice=key):
            return {"kind": "member", "object": expression(value), "key": expression(key)}
        case ast.Dict(keys=keys, values=values):
            pairs = (
                (expression(key), expression(value))
                for key, value in zip(keys, values, strict=True)
            )
            fields = {key["value"]: value for key, value in pairs if key["kind"] == "text"}
            return {"kind": "object", "fields": fields}
    return UNKNOWN


@cache
def installing(extra: str) -> str:
    """What lockstep.install.install says in a clone, and where npm installed Lockstep."""
    file = Path(sys.argv[1]) / "install.py"
    module: Any = types.ModuleType("install")
    module.__file__ = str(file)
    exec(compile(file.read_text(encoding="utf-8"), file, "exec"), module.__dict__)
    clone = module.install(extra)
    # As where neither a clone nor the npm package is around it.
    module.__file__ = "/none/python/lockstep/install.py"
    module._PACKAGE = Path("/none/package.json")
    return f"Run `{clone}` in a clone, or `{module.install(extra)}` where npm installed Lockstep"


def text(value: str) -> dict[str, Any]:
    return {"kind": "text", "value": value}


def name_of(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def is_code(given: dict[str, Any] | None) -> bool:
    return given is not None and given["kind"] == "text" and bool(CODE.match(given["value"]))


if __name__ == "__main__":
    folder, shown = Path(sys.argv[1]), sys.argv[2]
    files = sorted(folder.rglob("*.py"))
    models = [read(file, f"{shown}/{file.relative_to(folder).as_posix()}") for file in files]
    json.dump(models, sys.stdout)
