"""An adapter (LoRA) in PEFT's layout, and whose it is (counterpart of src/weights/adapter.ts).

A folder with `adapter_config.json` and `adapter_model.safetensors`, which PEFT and vLLM read, and
`lockstep-adapter.json`: the digest of the contract that it was trained under, the SHA-256 of the
weights that it was trained on, and the SHA-256 of the two files. It may be used with no others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ..contract.checkpoint_names import check_inside
from ..errors import LockstepError
from .hash import hash_once
from .header import Stored, read_header
from .reader import identity_of
from .table import expected_tensors

CONFIG, TENSORS, SEAL = "adapter_config.json", "adapter_model.safetensors", "lockstep-adapter.json"
FORMAT = 1
#: The largest rank that vLLM makes room for.
MOST_RANK = 512
#: Bytes of the two JSON files at most.
_MOST_JSON = 1_000_000
_SHA = re.compile(r"[0-9a-f]{64}")
_TENSOR = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
#: What else adapter_config.json may say, and must not say otherwise: plain LoRA adds
#: (alpha / rank) BA to a projection, and nothing more.
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": None,
    "inference_mode": True,
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "lora_dropout": 0.0,
}
_AGAIN = "Copy the folder again from the training's checkpoint (adapter/), with all its files."


@dataclass(frozen=True)
class Adapter:
    """An adapter whose files are those that were sealed.

    ``modules``: full names of the adapted projections, sorted. ``sha256``: of its two files, as
    `identity_of` sums them up. ``tensors``: A [rank, in] and B [out, rank] by (module, part).
    """

    folder: Path
    contract: str
    base: str
    rank: int
    alpha: float
    modules: tuple[str, ...]
    sha256: str
    tensors: dict[tuple[str, str], Stored]


def config_of(rank: int, alpha: float, modules: list[str]) -> dict[str, Any]:
    """`adapter_config.json` as PEFT reads it; ``modules`` are full names of projections."""
    return {**_PLAIN, "r": rank, "lora_alpha": alpha, "target_modules": sorted(modules)}


def seal(folder: Path, contract: str, base: str, trained: Mapping[str, int]) -> None:
    """Write what says whose the adapter in ``folder`` is. ``base``: SHA-256 of the weights."""
    document = {
        "adapter": FORMAT,
        "contract": contract,
        "base": base,
        "files": _sums(folder),
        "trained": {"steps": trained["steps"], "tokens": trained["tokens"]},
    }
    (folder / SEAL).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def read(folder: str | Path) -> Adapter:
    """The adapter in ``folder``. Raises ``LS_ADAPTER_FILE`` for one that is none, or damaged."""
    folder = Path(folder)
    sealed, config = _json(folder, SEAL), _json(folder, CONFIG)
    files = sealed.get("files")
    if (
        sealed.get("adapter") != FORMAT
        or not _is_sha(sealed.get("contract"))
        or not _is_sha(sealed.get("base"))
        or not isinstance(files, dict)
        or sorted(files) != [CONFIG, TENSORS]
    ):
        raise _file(f"expected format {FORMAT}, a contract, a base and two files in {SEAL}", folder)
    _present(folder, TENSORS)
    for name, got in _sums(folder).items():
        if files[name] != got:
            raise _file(f"expected {name} with SHA-256 {files[name]}, got {got}", folder, name)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    modules: Any = config.get("target_modules")
    known = _PLAIN.keys() | {"r", "lora_alpha", "target_modules"}
    odd = sorted(name for name in config if name not in known)
    odd += sorted(name for name, plain in _PLAIN.items() if config.get(name) != plain)
    if odd:
        raise _file(f"expected plain LoRA in {CONFIG}, got {odd[0]}", folder, odd[0])
    if type(rank) is not int or rank < 1 or not _is_number(alpha) or not _are_names(modules):
        raise _file(f"expected r, lora_alpha and target_modules in {CONFIG}", folder)
    tensors: dict[tuple[str, str], Stored] = {}
    for name, stored in read_header(folder, TENSORS).items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            raise _file(f"expected only A and B of projections in {TENSORS}, got {name}", folder)
        tensors[found[1], found[2]] = stored
    wanted = {(module, part) for module in modules for part in "AB"}
    if tensors.keys() != wanted:
        module, part = min(tensors.keys() ^ wanted)
        raise _file(f"expected A and B of target_modules alone, got {module} {part}", folder)
    sha256 = str(identity_of(files)["sha256"])
    names = tuple(sorted(modules))
    return Adapter(
        folder, sealed["contract"], sealed["base"], rank, float(alpha), names, sha256, tensors
    )


def check(adapter: Adapter, contract: Mapping[str, Any]) -> None:
    """Refuse an adapter that does not belong to the checkpoint with this ``lockstep.json``.

    Raises ``LS_ADAPTER_CONTRACT``, ``LS_ADAPTER_BASE``, ``LS_ADAPTER_RANK``, and
    ``LS_ADAPTER_TENSORS`` where its matrices do not fit the model's projections.
    """
    where = adapter.folder
    if adapter.contract != contract["digest"]:
        raise LockstepError(
            "LS_ADAPTER_CONTRACT",
            f"expected an adapter trained under the contract {contract['digest']}, got "
            f"{adapter.contract} in {where}",
            "Serve it with the checkpoint that its training began from, or train it again under "
            "this contract.",
            "contract",
        )
    base = contract["trained"]["weights"]["sha256"]
    if adapter.base != base:
        raise LockstepError(
            "LS_ADAPTER_BASE",
            f"expected an adapter of the weights {base}, got one of {adapter.base} in {where}",
            "Serve it with the checkpoint that its training began from: "
            "lockstep attach MODEL --config F --out DIR",
            "base",
        )
    if adapter.rank > MOST_RANK:
        raise LockstepError(
            "LS_ADAPTER_RANK",
            f"expected a rank of at most {MOST_RANK}, got {adapter.rank} in {where}",
            "Serve the checkpoint with the adapter merged (the folder above adapter/).",
            "r",
        )
    sides = expected_tensors(contract["model"])
    for (module, part), stored in sorted(adapter.tensors.items()):
        side = sides.get(f"{module}.weight")
        rows, columns = side if side is not None and len(side) == 2 else (0, 0)
        wanted = [adapter.rank, columns] if part == "A" else [rows, adapter.rank]
        if "_proj" not in module or stored.shape != wanted or stored.dtype != "F32":
            raise LockstepError(
                "LS_ADAPTER_TENSORS",
                f"expected {part} of {module} to be F32 {wanted}, got {stored.dtype} "
                f"{stored.shape} in {where}",
                _AGAIN,
                module,
            )


def _sums(folder: Path) -> dict[str, str]:
    return {name: hash_once(folder / name) for name in (CONFIG, TENSORS)}


def _present(folder: Path, name: str) -> None:
    file = folder / name
    if not file.is_file():
        raise _file(f"expected {name} in {folder}, got no such file", None, name)
    check_inside(folder, file)


def _json(folder: Path, name: str) -> dict[str, Any]:
    _present(folder, name)
    try:
        raw = (folder / name).read_bytes()
        value = json.loads(raw) if len(raw) <= _MOST_JSON else None
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _file(f"expected a JSON object in {name}, got something else", folder, name)
    return value


def _is_sha(value: Any) -> bool:
    return isinstance(value, str) and _SHA.fullmatch(value) is not None


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and 0 < value < float("inf")


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(n, str) for n in value)


def _file(message: str, folder: Path | None, field: str | None = None) -> LockstepError:
    where = "" if folder is None else f" ({folder})"
    fix = _AGAIN
    if field == SEAL and folder is None:
        fix = (
            "Name the folder adapter/ of a checkpoint that was trained with training.lora and "
            "nothing else, or one that lockstep.save_adapter wrote; other adapters carry no "
            "contract."
        )
    return LockstepError("LS_ADAPTER_FILE", message + where, fix, field)
