"""A checkpoint's contract, believed only after all it says was checked (twin of src/contract)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import rfc8785

from .errors import LockstepError

CONTRACT_FILE = "lockstep.json"
_UNDIGESTED = ("digest", "training", "trained")
_FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3", "mistral": "Mistral"}
_REMAKE = "make the contract again from the config: lockstep attach MODEL --config F --out DIR"


@dataclass(frozen=True)
class Contract:
    """``document`` is the content of lockstep.json, ``policy_source`` the text of policy.js."""

    document: Mapping[str, Any]
    policy_source: str

    @property
    def digest(self) -> str:
        return str(self.document["digest"])


def canonical_json(value: Any) -> bytes:
    """RFC 8785 form of a JSON value. Raises ``LS_CONTRACT_JSON`` for what it cannot hold."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise LockstepError(
            "LS_CONTRACT_JSON",
            f"expected JSON for the digest, got: {error}",
            "let parameters and tables hold integers, booleans, Unicode strings, lists and objects",
        ) from error


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 over the RFC 8785 form of all but ``digest``, ``training``, ``trained``."""
    digested = {name: value for name, value in document.items() if name not in _UNDIGESTED}
    return hashlib.sha256(canonical_json(digested)).hexdigest()


def read(path: str | Path, *, tokenizer: str | Path | None = None) -> Contract:
    """Read and check the contract of a checkpoint folder.

    Checked are the schema, the digest, policy.js, tokenizer.json, config.json, and the golden
    sequences, planned again in this process. ``tokenizer`` names a tokenizer.json that lies
    elsewhere: the folder then holds a contract that is not part of a checkpoint yet, and no
    config.json is looked at.

    Raises ``LS_CONTRACT_`` + MISSING, SCHEMA, DIGEST, POLICY, TOKENIZER, ARCHITECTURE or GOLDEN;
    each names the field and both values.
    """
    folder = Path(path)
    document = _read_document(folder)
    digest = digest_of(document)
    if digest != document["digest"]:
        raise _edited("DIGEST", "digest", digest, document["digest"], CONTRACT_FILE)
    source = _read_policy(folder, document)
    _check_tokenizer(folder / "tokenizer.json" if tokenizer is None else Path(tokenizer), document)
    if tokenizer is None:
        _check_model(folder, document)
    contract = Contract(document, source)
    _replay_golden(contract)
    return contract


@cache
def _validator() -> jsonschema.protocols.Validator:
    schema = json.loads((Path(__file__).parent / "contract.schema.json").read_text("utf-8"))
    return jsonschema.Draft202012Validator(schema)


def _read_document(folder: Path) -> dict[str, Any]:
    file = folder / CONTRACT_FILE
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LockstepError(
            "LS_CONTRACT_MISSING",
            f"expected {file}, got {type(error).__name__}",
            "put a contract on it: lockstep attach MODEL --config lockstep.config.ts --out DIR",
        ) from error
    try:
        document = json.loads(data)
    except ValueError as error:  # not JSON, or not UTF-8
        raise LockstepError(
            "LS_CONTRACT_SCHEMA", f"expected JSON in {file}, got: {error}", _REMAKE
        ) from error
    problem = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if problem is None:
        return document
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
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
        family = _FAMILIES.get(config["model_type"], config["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LockstepError(
            "LS_CONTRACT_ARCHITECTURE",
            f"expected a model's settings in {file}, got {type(error).__name__}: {error}",
            "copy config.json again from the checkpoint, or attach the contract again",
        ) from error
    kv_heads = config.get("num_key_value_heads") or config.get("num_attention_heads")
    for field, expected in (
        ("architectures", [f"Segmented{family}ForCausalLM"]),
        ("vocab_size", document["tokenizer"]["size"]),
        ("num_hidden_layers", len(document["heads"]["long"])),
    ):
        if config.get(field) != expected:
            raise _edited("ARCHITECTURE", field, expected, config.get(field), "config.json")
    for layer, heads in enumerate(document["heads"]["long"]):
        for head in heads:
            if head >= kv_heads:
                below = f"KV heads below {kv_heads}"
                raise _edited("ARCHITECTURE", f"heads.long[{layer}]", below, head, CONTRACT_FILE)
    layers = config["num_hidden_layers"]
    for layer in document["retrieval"]["layers"]:
        if layer >= layers:
            below = f"layers below {layers}"
            raise _edited("ARCHITECTURE", "retrieval.layers", below, layer, CONTRACT_FILE)


def _replay_golden(contract: Contract) -> None:
    """Plan the golden sequences here, each alone and all in turns: this runtime must cut as the one
    that made the contract."""
    from .planner import Planner, plans_by_detours

    planner = Planner(contract)
    golden = contract.document["golden"]
    sequences = [one["tokens"] for one in golden]
    _compare_golden(golden, [planner.plan(ids) for ids in sequences])
    _compare_golden(golden, plans_by_detours(contract, sequences))


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
        f"The checkpoint was changed by hand or mixed up; {_REMAKE}",
        field,
    )
