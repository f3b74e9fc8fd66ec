"""The one strict reader of weights: which files they are, what they hold, and whose they are
(counterpart of src/weights/read.ts)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785

from ..contract.checkpoint_names import check_names
from ..contract.shape import shape_of
from ..contract.shape_fields import read_fields
from ..errors import LockstepError
from .files import INDEX, file_set, holds_no_weights
from .hash import hash_once
from .header import Stored, read_header
from .table import EMBEDDING, HEAD, IGNORED, expected_tensors

_FLOATS = ("F64", "F32", "BF16", "F16")


@dataclass(frozen=True)
class Weights:
    """A checkpoint's weights, as their headers say. ``files``: names in the folder, sorted."""

    folder: Path
    files: list[str]
    tensors: dict[str, Stored]

    @property
    def paths(self) -> list[Path]:
        return [self.folder / name for name in self.files]


def checked() -> bool:
    """False where ``LOCKSTEP_NO_WEIGHTS_CHECK`` asks not to read weights only to check them."""
    return os.environ.get("LOCKSTEP_NO_WEIGHTS_CHECK", "") in ("", "0")


def read(folder: str | Path, *, bytes_too: bool | None = None) -> Weights:
    """Read the headers of a checkpoint's weights, and refuse what readers would not read alike.

    bytes_too: read the bytes of an output head beside a tied embedding (default: ``checked()``).
    Raises ``LS_MODEL_WEIGHTS`` when there are none; ``LS_MODEL_WEIGHTS_FILES``, ``_INDEX``,
    ``_HEADER`` for files that are damaged or contradict each other; ``LS_MODEL_WEIGHTS_TENSORS``
    where they are not what config.json asks for; ``LS_MODEL_WEIGHTS_TIED`` for an output head that
    is not the embedding it is tied to; ``LS_CHECKPOINT_*`` for paths in its files.
    """
    folder = Path(folder)
    check_names(folder)
    shape = shape_of(read_fields(folder))
    files, where = file_set(folder)
    tensors: dict[str, Stored] = {}
    for file in files:
        for name, stored in read_header(folder, file).items():
            earlier = tensors[name].file if name in tensors else None
            other = earlier or (where or {}).get(name, file)
            if other != file or (where is not None and name not in where):
                place = "nowhere" if other == file else f"in {other}"
                raise _indexed(f"expected {name} {place}, got it in {file}")
            tensors[name] = stored
    for name, file in (where or {}).items():
        if name not in tensors:
            raise _indexed(f"expected {name} in {file}, got no such tensor there")
    _compare(tensors, shape)
    if shape["tied"] and HEAD in tensors and (checked() if bytes_too is None else bytes_too):
        _compare_head(folder, tensors)
    return Weights(folder, files, tensors)


def identify(weights: Weights) -> dict[str, Any]:
    """SHA-256 of every file, computed once while a file stays as it is: ``identity_of`` them."""
    return identity_of({path.name: hash_once(path) for path in weights.paths})


def identity_of(files: Mapping[str, str]) -> dict[str, Any]:
    """``{sha256, files}``: whose weights they are. SHA-256 of each file by name, and of the
    canonical JSON of that map."""
    return {"sha256": hashlib.sha256(rfc8785.dumps(dict(files))).hexdigest(), "files": dict(files)}


def check(
    folder: str | Path,
    trained: Mapping[str, Any],
    *,
    needed: bool = True,
    bytes_too: bool | None = None,
) -> Weights | None:
    """Compare a checkpoint's weights with those that its contract records.

    trained: of lockstep.json. needed: False lets a folder without any weights pass (None is
    returned): it may hold an exported graph alone. bytes_too: hash them (default: ``checked()``).
    Raises what ``read`` raises, and
    ``LS_WEIGHTS_IDENTITY``.
    """
    folder, recorded = Path(folder), trained["weights"]
    whole = identity_of(recorded["files"])["sha256"]
    if whole != recorded["sha256"]:
        raise _foreign(
            f"expected trained.weights.sha256 {whole}, got {recorded['sha256']} in lockstep.json",
            trained,
        )
    if not needed and holds_no_weights(folder):
        return None
    weights = read(folder, bytes_too=bytes_too)
    names = sorted(recorded["files"])
    if names != weights.files:
        raise _foreign(
            f"expected the weights {', '.join(names)}, as lockstep.json records them, got "
            f"{', '.join(weights.files)}",
            trained,
        )
    if not (checked() if bytes_too is None else bytes_too):
        return weights
    found = identify(weights)["files"]
    for name in names:
        wanted, got = recorded["files"][name], found[name]
        if wanted != got:
            raise _foreign(
                f"expected {name} with SHA-256 {wanted}, as lockstep.json records it, got {got}",
                trained,
            )
    return weights


def _compare(tensors: Mapping[str, Stored], shape: Mapping[str, Any]) -> None:
    if shape["layers"] > len(tensors):
        raise _tensor(
            "num_hidden_layers",
            f"expected the tensors of {shape['layers']} layers, as config.json says, got "
            f"{len(tensors)} in all",
        )
    expected = expected_tensors({**shape, "tied": False})
    unused = sorted(n for n in tensors if not IGNORED.fullmatch(n) and n not in expected)
    if unused:
        first, held = unused[0], tensors[unused[0]]
        count = "" if len(unused) == 1 else f" (the first of {len(unused)})"
        raise _tensor(
            first,
            f"expected only tensors that a {shape['family'].capitalize()} of this config.json "
            f"uses, got {first} {held.shape} in {held.file}{count}",
        )
    for name, wanted in expected.items():
        stored = tensors.get(name)
        if stored is None:
            if name != HEAD:
                raise _tensor(name, f"expected {name} {wanted}, got no such tensor")
            if shape["tied"]:
                continue
            raise _tied(
                f"expected {HEAD} {wanted} with tie_word_embeddings false, got no such tensor"
            )
        if stored.shape != wanted:
            raise _tensor(
                name,
                f"expected {name} {wanted}, as config.json says, got {stored.shape} in "
                f"{stored.file}",
            )
        if stored.dtype not in _FLOATS:
            raise _tensor(
                name,
                f"expected {name} in {', '.join(_FLOATS)}, got {stored.dtype} in {stored.file}",
            )


def _compare_head(folder: Path, tensors: Mapping[str, Stored]) -> None:
    a, b = tensors[EMBEDDING], tensors[HEAD]

    def content(one: Stored) -> str:
        return hash_once(folder / one.file, (one.begin, one.end))

    if a.dtype == b.dtype and content(a) == content(b):
        return
    raise _tied(
        f"expected {HEAD} to equal {EMBEDDING}, as config.json ties them, got another in {b.file}"
    )


def _indexed(message: str) -> LockstepError:
    return LockstepError(
        "LS_MODEL_WEIGHTS_INDEX",
        f"{INDEX}: {message}",
        "Copy the index and its files again from the original checkpoint.",
        INDEX,
    )


def _tensor(name: str, message: str) -> LockstepError:
    return LockstepError(
        "LS_MODEL_WEIGHTS_TENSORS",
        message,
        "Weights and config.json belong to different models: copy both again from one checkpoint.",
        name,
    )


def _tied(message: str) -> LockstepError:
    return LockstepError(
        "LS_MODEL_WEIGHTS_TIED",
        message,
        "Set tie_word_embeddings in config.json to what the model was trained with: true uses the "
        "embedding as the head, false needs lm_head.weight.",
        "tie_word_embeddings",
    )


def _foreign(message: str, trained: Mapping[str, Any]) -> LockstepError:
    fix = (
        "Put back the weights that the training wrote (lockstep train --resume brings them back); "
        "another model’s weights need a contract of their own: lockstep attach"
        if trained["steps"] > 0
        else "Put back the weights that the contract was attached to, or attach it to these: "
        "lockstep attach MODEL --config F --out DIR"
    )
    return LockstepError("LS_WEIGHTS_IDENTITY", message, fix, "trained.weights")
