"""What a checkpoint's settings may name: files of its own folder, and no code (counterpart of
src/checkpoint-names.ts and src/inside.ts)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..errors import LockstepError

SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "adapter_config.json",
    "processor_config.json",
)
OTHERS = (
    *("lockstep.json", "policy.js", "tokenizer.json", "chat_template.jinja"),
    "additional_chat_templates/tool_use.jinja",
)
#: Fields that have some library load and run Python files, here or from a hub.
CODE = ("auto_map", "custom_pipelines", "custom_generate")
#: Notes of where a file once was, which nothing reads.
NOTES = ("_name_or_path", "name_or_path", "special_tokens_map_file", "base_model_name_or_path")


def check_names(path: str | Path) -> None:
    """Raises ``LS_CHECKPOINT_CODE``, ``LS_CHECKPOINT_PATH``, ``LS_CHECKPOINT_LINK``."""
    folder = Path(path)
    indexes = sorted(file.name for file in folder.glob("*.index.json"))
    for name in (*SETTINGS, *indexes, *OTHERS):
        file = folder / name
        if not file.is_symlink() and not file.exists():
            continue
        check_inside(folder, file)
        if name in OTHERS:
            continue
        try:
            value = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue  # the reader of this file reports it
        if name in indexes:
            _check_index(value, file)
        else:
            _check_settings(value, file)


def is_plain_name(name: Any) -> bool:
    """Whether it is a file's name beside the one it stands in: no folder, no ``..``, no drive."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and len(name.encode("utf-16-le", "surrogatepass")) <= 510
        and not re.search(r"[/\\:\x00-\x1f]", name)
    )


def check_inside(folder: Path, file: Path) -> None:
    """Raises ``LS_CHECKPOINT_LINK`` for a link out of the folder; a Hugging Face cache's links from
    ``snapshots/REVISION`` to ``blobs`` are followed."""
    if not file.exists():
        return
    root, target = folder.resolve(), file.resolve()
    if root in target.parents:
        return
    if root.parent.name == "snapshots" and root.parent.parent / "blobs" in target.parents:
        return
    raise LockstepError(
        "LS_CHECKPOINT_LINK",
        f"expected {file} to be inside {folder}, got a link to a file outside of it",
        "Put a copy of the file in its place, if you know what it is.",
    )


def _check_index(value: Any, file: Path) -> None:
    names = value.get("weight_map") if isinstance(value, dict) else None
    if isinstance(names, dict):
        for name in names.values():
            _check_name(name, "weight_map", file)


def _check_settings(value: Any, file: Path) -> None:
    open_ = [value]
    while open_:
        part = open_.pop()
        if isinstance(part, list):
            open_ += part
            continue
        if not isinstance(part, dict):
            continue
        for name, inner in part.items():
            if name in CODE and inner is not None:
                raise LockstepError(
                    "LS_CHECKPOINT_CODE",
                    f"expected a checkpoint without code of its own, got {name} in {file}",
                    f"Lockstep never runs code from a checkpoint. If the model does not need it, "
                    f"remove {name} from the file.",
                    name,
                )
            named = re.search(r"_(file|path|dir|folder)$", name) and name not in NOTES
            if named and isinstance(inner, str):
                _check_name(inner, name, file)
            if name == "chat_template" and isinstance(inner, list):
                for one in inner:  # libraries write each to a file of its name
                    label = one.get("name") if isinstance(one, dict) else one
                    _check_name(label, f"{name}.name", file)
            open_.append(inner)


def _check_name(name: Any, field: str, file: Path) -> None:
    if is_plain_name(name):
        return
    raise LockstepError(
        "LS_CHECKPOINT_PATH",
        f"expected {field} in {file} to name a file of its own folder, "
        f"got {json.dumps(name)[:200]}",
        "Remove the field, or copy the file again from the original checkpoint.",
        field,
    )
