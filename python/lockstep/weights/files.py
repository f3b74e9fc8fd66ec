"""Which files are a checkpoint's weights: one model.safetensors, or an index and its shards; never
both."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from ..errors import LockstepError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
#: What is read of an index at most, in bytes: a model of 100,000 tensors has 10 MB.
_INDEX_LIMIT = 100_000_000
_ADAPTER = re.compile(r"adapter_(config\.json|model\.(safetensors|bin))")
_NAME = re.compile(r"[^./\\\0][^/\\\0]*\.safetensors")


def holds_no_weights(folder: Path) -> bool:
    """True where nothing in the folder is meant as weights: it may hold an exported graph alone."""
    return not any(
        _is_weights(name) or _is_index(name) or _ADAPTER.fullmatch(name) for name in _names(folder)
    )


def file_set(folder: Path) -> tuple[list[str], dict[str, str] | None]:
    """Decide which files are the weights, and refuse what one reader would read and another would
    not (counterpart of ``fileSet`` in src/weights/files.ts).

    Returns their names, sorted, and the file of every tensor as the index says (None without one).
    Raises ``LS_MODEL_WEIGHTS`` when there are none, or only pickled ones;
    ``LS_MODEL_WEIGHTS_FILES`` for files that contradict each other; ``LS_MODEL_WEIGHTS_INDEX``.
    """
    names = _names(folder)
    for name in names:
        if _ADAPTER.fullmatch(name):
            raise _files(
                f"expected the weights of one whole model in {folder}, got {name} next to them",
                "Merge the adapter (merge_and_unload of peft, then save_pretrained), or move its "
                "files elsewhere.",
            )
    there = [name for name in names if _is_weights(name)]
    tensors = _read_index(folder) if INDEX in names else None
    chosen = [SINGLE] if tensors is None else sorted(set(tensors.values()))
    if tensors is None and SINGLE not in there:
        raise _none(folder, names, there)
    if tensors is not None and SINGLE in there and SINGLE not in chosen:
        raise _files(
            f"expected one set of weights in {folder}, got {SINGLE} and {INDEX} with "
            f"{', '.join(chosen)}",
            "Remove the set that is not the model’s: readers would differ in which one they take.",
        )
    for name in chosen:
        if name not in names:
            raise _index(f"expected the files that {INDEX} names in {folder}, got no {name}")
    strays = [name for name in there if name not in chosen] + [
        name for name in names if _is_index(name) and name != INDEX
    ]
    if strays:
        raise _files(
            f"expected no weights but {', '.join(chosen)} in {folder}, got {strays[0]} too",
            "Move the file elsewhere: some readers would read it, and others would not.",
        )
    return chosen, tensors


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and not name.startswith(".")


def _is_index(name: str) -> bool:
    return name.endswith(".safetensors.index.json") and not name.startswith(".")


def _read_index(folder: Path) -> dict[str, str]:
    file, held = folder / INDEX, None
    size = file.stat().st_size if file.exists() else 0
    if size > _INDEX_LIMIT:
        raise _index(f"expected {INDEX} of at most {_INDEX_LIMIT} bytes in {folder}, got {size}")
    # Invalid JSON gets the same error below as everything else that is not an index.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        held = json.loads(file.read_bytes().decode("utf-8"), parse_constant=_refuse)
    found: Any = held.get("weight_map") if isinstance(held, dict) else None
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(name, str) for name in found.values())
    ):
        raise _index(
            f"expected weight_map with a file for each tensor in {INDEX} of {folder}, got none"
        )
    for name in found.values():
        if not _NAME.fullmatch(name) or ".." in name:
            raise _index(
                f"expected names of .safetensors files in its own folder in {INDEX} of {folder}, "
                f"got {json.dumps(name, ensure_ascii=False)}"
            )
    return found


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _none(folder: Path, names: list[str], there: list[str]) -> LockstepError:
    pickled = next((n for n in names if re.search(r"\.(bin|pt|pth|ckpt)$", n)), None)
    got = ", ".join(there) or pickled or "no weights"
    return LockstepError(
        "LS_MODEL_WEIGHTS",
        f"expected {SINGLE} or {INDEX} in {folder}, got {got}",
        "Finish the download of the checkpoint."
        if pickled is None or there
        else "Pickled weights can run code; save the model again with save_pretrained, which "
        "writes safetensors.",
    )


def _files(message: str, fix: str) -> LockstepError:
    return LockstepError("LS_MODEL_WEIGHTS_FILES", message, fix)


def _index(message: str) -> LockstepError:
    return LockstepError(
        "LS_MODEL_WEIGHTS_INDEX",
        message,
        "Copy the index and its files again from the original checkpoint.",
        INDEX,
    )
