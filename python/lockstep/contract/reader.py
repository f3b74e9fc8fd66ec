"""Reads a contract and verifies it (the Python counterpart of src/contract)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rfc8785

from ..errors import LockstepError
from ..json_text import loads
from ..tokenizer import ends
from ..weights import reader as weights
from . import shape, shape_fields
from .checkpoint_names import check_names
from .model_type import segmented_type
from .schema import first_problem

CONTRACT_FILE = "lockstep.json"
#: The version that this Lockstep reads.
VERSION = 2
_UNDIGESTED = ("digest", "training", "trained")
#: Digests whose golden sequences this process has planned. A digest has all that a plan depends on.
_replayed: set[str] = set()
_REMAKE = "Make the contract again from the config: lockstep attach MODEL --config F --out DIR"


@dataclass(frozen=True)
class Contract:
    """``document`` is the content of lockstep.json, ``policy_source`` the text of policy.js."""

    document: Mapping[str, Any]
    policy_source: str

    @property
    def digest(self) -> str:
        return str(self.document["digest"])


def is_trained(document: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was trained under its contract, or only had it attached."""
    return bool(document["trained"]["steps"] > 0)


def canonical_json(value: Any) -> bytes:
    """RFC 8785 form of a JSON value. Raises ``LS_CONTRACT_JSON`` for what it cannot hold."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise LockstepError(
            "LS_CONTRACT_JSON",
            f"expected JSON for the digest, got: {error}",
            "Let parameters and tables hold integers, booleans, Unicode strings, lists, objects.",
        ) from error


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 over the RFC 8785 form of all but ``digest``, ``training``, ``trained``."""
    digested = {name: value for name, value in document.items() if name not in _UNDIGESTED}
    return hashlib.sha256(canonical_json(digested)).hexdigest()


def read(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    weights_check: bool | None = None,
) -> Contract:
    """Read and check the contract of a checkpoint folder.

    Checked are the schema, the digest, policy.js, tokenizer.json, config.json, the weights (where
    any are there: a folder may hold an exported graph alone) and whose they are, and the golden
    sequences, planned again in this process. ``tokenizer`` names a tokenizer.json that lies
    elsewhere: the folder then holds a contract that is not part of a checkpoint yet, and no
    config.json or weights are looked at. ``weights_check``: hash the weights (default: unless
    ``LOCKSTEP_NO_WEIGHTS_CHECK`` asks not to).

    Raises ``LS_CONTRACT_`` + MISSING, SCHEMA, VERSION, DIGEST, POLICY, TOKENIZER, ARCHITECTURE or
    GOLDEN; each names the field and both values. ``LS_MODEL_*`` for a config.json or weights that
    are none, or not supported. ``LS_WEIGHTS_IDENTITY`` for others than the contract records.
    """
    folder = Path(path)
    check_names(folder)
    document = _read_document(folder)
    digest = digest_of(document)
    if digest != document["digest"]:
        raise _edited("DIGEST", "digest", digest, document["digest"], CONTRACT_FILE)
    source = _read_policy(folder, document)
    _check_tokenizer(folder / "tokenizer.json" if tokenizer is None else Path(tokenizer), document)
    if tokenizer is None:
        _check_model(folder, document)
        weights.check(folder, document["trained"], needed=False, bytes_too=weights_check)
    contract = Contract(document, source)
    _replay_golden(contract)
    return contract


def _read_document(folder: Path) -> dict[str, Any]:
    file = folder / CONTRACT_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LockstepError(
            "LS_CONTRACT_MISSING",
            f"expected {file}, got {type(error).__name__}",
            "Put a contract on it: lockstep attach MODEL --config lockstep.config.ts --out DIR",
        ) from error
    try:
        document = loads(data)
    except ValueError as error:  # not JSON, or not UTF-8
        raise LockstepError(
            "LS_CONTRACT_SCHEMA", f"expected JSON in {file}, got: {error}", _REMAKE
        ) from error
    version = document.get("lockstep") if isinstance(document, dict) else None
    if type(version) is int and version > VERSION:
        raise _version(file, version, "A later version of Lockstep made it. Update Lockstep.")
    if type(version) is int and version == 1:
        _fit("contract-v1", document, file)
        fix = f"An earlier version of Lockstep made it. Run lockstep attach --upgrade {folder}"
        raise _version(file, version, fix)
    _fit("contract", document, file)
    return dict(document)


def _version(file: Path, version: int, fix: str) -> LockstepError:
    return LockstepError(
        "LS_CONTRACT_VERSION",
        f"expected version {VERSION} of the contract, got {version} ({file})",
        fix,
        "lockstep",
    )


def _fit(schema: str, document: Any, file: Path) -> None:
    problem = first_problem(schema, document)
    if problem is None:
        return
    field = ""
    for step in problem.absolute_path:
        field += f"[{step}]" if isinstance(step, int) else f".{step}" if field else str(step)
    message = problem.message if len(problem.message) <= 200 else f"{problem.message[:197]}..."
    raise LockstepError(
        "LS_CONTRACT_SCHEMA",
        f"{file} does not fit the contract schema at {field or 'its root'}: {message}",
        _REMAKE,
        field,
    )


def _read_policy(folder: Path, document: Mapping[str, Any]) -> str:
    expected = document["policy"]
    try:
        data = (folder / expected["file"]).read_bytes()
    except OSError as error:
        raise LockstepError(
            "LS_CONTRACT_POLICY",
            f"expected {folder / expected['file']}, got {type(error).__name__}",
            _REMAKE,
            "policy.file",
        ) from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected["sha256"]:
        raise _edited("POLICY", "policy.sha256", expected["sha256"], actual, expected["file"])
    return data.decode("utf-8")


def _check_tokenizer(file: Path, document: Mapping[str, Any]) -> None:
    expected = document["tokenizer"]["sha256"]
    try:
        with file.open("rb") as stream:
            actual = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LockstepError(
            "LS_CONTRACT_TOKENIZER",
            f"expected {file}, got {type(error).__name__}",
            _REMAKE,
            "tokenizer.sha256",
        ) from error
    if actual != expected:
        raise _edited("TOKENIZER", "tokenizer.sha256", expected, actual, file.name)


def _check_model(folder: Path, document: Mapping[str, Any]) -> None:
    fields = shape_fields.read_fields(folder)
    model, config = shape.shape_of(fields), fields.config
    named = [f"Segmented{shape.FAMILIES[model['family']]}ForCausalLM"]
    tokenizer, long = document["tokenizer"], document["heads"]["long"]
    for field, expected, actual, where in (
        ("architectures", named, config.get("architectures"), "config.json"),
        ("model_type", segmented_type(model["family"]), config["model_type"], "config.json"),
        ("model", document["model"], model, "config.json"),
        ("tokenizer.size", model["vocabulary"], tokenizer["size"], CONTRACT_FILE),
        ("heads.long.length", model["layers"], len(long), CONTRACT_FILE),
    ):
        other = _difference(field, expected, actual)
        if other is not None:
            raise _edited("ARCHITECTURE", *other, where)
    for layer, heads in enumerate(long):
        for head in heads:
            if head >= model["kvHeads"]:
                below = f"KV heads below {model['kvHeads']}"
                raise _edited("ARCHITECTURE", f"heads.long[{layer}]", below, head, CONTRACT_FILE)
    for layer in document["retrieval"]["layers"]:
        if layer >= model["layers"]:
            below = f"layers below {model['layers']}"
            raise _edited("ARCHITECTURE", "retrieval.layers", below, layer, CONTRACT_FILE)
    actual = ends.read_ends(folder, config, model["vocabulary"], tokenizer["sha256"])
    if actual != tokenizer["ends"]:
        told = "eos_token of tokenizer_config.json, eos_token_id of config and generation_config"
        raise _edited("TOKENIZER", "tokenizer.ends", tokenizer["ends"], actual, told)


def _difference(field: str, expected: Any, actual: Any) -> tuple[str, Any, Any] | None:
    """Name and both values of the first field that differs. Objects are compared by name."""
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for name in (*expected, *(name for name in actual if name not in expected)):
            found = _difference(f"{field}.{name}", expected.get(name), actual.get(name))
            if found is not None:
                return found
        return None
    return None if expected == actual else (field, expected, actual)


def _replay_golden(contract: Contract) -> None:
    """Plan the golden sequences here, each alone and all in turns: this runtime must cut as the one
    that made the contract."""
    if contract.digest in _replayed:
        return
    from .planner import Planner, interleaved_plans

    planner = Planner(contract)
    golden = contract.document["golden"]
    sequences = [one["tokens"] for one in golden]
    _compare_golden(golden, [planner.plan(ids) for ids in sequences])
    _compare_golden(golden, interleaved_plans(contract, sequences, planner))
    _replayed.add(contract.digest)


def _compare_golden(golden: list[dict[str, Any]], plans: list[list[int]]) -> None:
    for at, actual in enumerate(plans):
        expected = golden[at]["boundaries"]
        if actual == expected:
            continue
        shared = min(len(expected), len(actual))
        first = next((i for i in range(shared) if expected[i] != actual[i]), shared)
        raise _edited(
            "GOLDEN",
            f"golden[{at}].boundaries[{first}]",
            expected[first] if first < len(expected) else "no boundary",
            actual[first] if first < len(actual) else "no boundary",
            "policy.js as this runtime runs it",
        )


def _edited(kind: str, field: str, expected: Any, actual: Any, where: str) -> LockstepError:
    def show(value: Any) -> str:
        if value is None:
            return "nothing"
        return value if isinstance(value, str) else json.dumps(value)

    return LockstepError(
        f"LS_CONTRACT_{kind}",
        f"expected {field} to be {show(expected)}, got {show(actual)} ({where})",
        f"A file of this checkpoint was edited, or comes from another checkpoint. {_REMAKE}",
        field,
    )
