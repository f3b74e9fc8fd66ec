"""The Python reader of contracts, on checkpoints that the built `lockstep attach` made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lockstep import contract
from lockstep.errors import LockstepError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkpoint(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "checkpoint"))


def edit(checkpoint: Path, change: Callable[[dict[str, Any]], Any], *, seal: bool = False) -> None:
    file = checkpoint / "lockstep.json"
    document = json.loads(file.read_text("utf-8"))
    change(document)
    if seal:
        document["digest"] = contract.digest_of(document)
    file.write_text(json.dumps(document), "utf-8")


def refused(checkpoint: Path, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        contract.read(checkpoint, **options)
    assert caught.value.fix
    return caught.value


def test_reads_what_node_wrote(checkpoint: Path) -> None:
    read = contract.read(checkpoint)
    assert read.document == json.loads((checkpoint / "lockstep.json").read_text("utf-8"))
    assert read.digest == contract.digest_of(read.document)
    assert read.policy_source == (checkpoint / "policy.js").read_text("utf-8")
    assert read.document["policy"]["name"] == "sentences"
    assert any(len(golden["boundaries"]) > 2 for golden in read.document["golden"])


def test_training_is_not_part_of_what_was_agreed(checkpoint: Path) -> None:
    before = contract.read(checkpoint).digest
    edit(checkpoint, lambda d: d["trained"].update(steps=2, tokens=9))
    edit(checkpoint, lambda d: d["training"].update(truncation=3))
    assert contract.read(checkpoint).digest == before


def test_a_contract_outside_a_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    for name in ("lockstep.json", "policy.js"):
        shutil.copy(checkpoint / name, apart)
    tokenizer = checkpoint / "tokenizer.json"
    assert contract.read(apart, tokenizer=tokenizer).digest == contract.read(checkpoint).digest
    assert refused(apart).code == "LS_CONTRACT_TOKENIZER"
    error = refused(apart, tokenizer=checkpoint / "config.json")
    assert (error.code, error.field) == ("LS_CONTRACT_TOKENIZER", "tokenizer.sha256")


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        node: Any = document
        for step in path[:-1]:
            node = node[step]
        node[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "seal", "code", "field"),
    [
        (_set("carry", "size", value=9), False, "DIGEST", "digest"),
        (_set("tables", value=[1]), False, "DIGEST", "digest"),
        (_set("carry", "more", value=9), False, "SCHEMA", "carry"),
        (_set("segment", "max", value="48"), False, "SCHEMA", "segment.max"),
        (_set("golden", 0, "tokens", 2, value=-1), False, "SCHEMA", "golden[0].tokens[2]"),
        (_set("heads", "long", 3, value=[0, 9]), True, "ARCHITECTURE", "heads.long[3]"),
        (_set("retrieval", "layers", value=[1, 7]), True, "ARCHITECTURE", "retrieval.layers"),
        (_set("golden", 0, "boundaries", 1, value=7), True, "GOLDEN", "golden[0].boundaries[1]"),
        (_set("segment", "max", value=24), True, "GOLDEN", None),
    ],
)
def test_a_contract_edited_by_hand(
    checkpoint: Path,
    change: Callable[[dict[str, Any]], None],
    seal: bool,
    code: str,
    field: str | None,
) -> None:
    edit(checkpoint, change, seal=seal)
    error = refused(checkpoint)
    assert error.code == f"LS_CONTRACT_{code}"
    assert field is None or error.field == field


@pytest.mark.parametrize(
    ("name", "code", "field"),
    [
        ("policy.js", "POLICY", "policy.sha256"),
        ("tokenizer.json", "TOKENIZER", "tokenizer.sha256"),
    ],
)
def test_a_changed_file(checkpoint: Path, name: str, code: str, field: str) -> None:
    with (checkpoint / name).open("a", encoding="utf-8") as file:
        file.write(" ")
    error = refused(checkpoint)
    assert (error.code, error.field) == (f"LS_CONTRACT_{code}", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architectures", ["LlamaForCausalLM"]),
        ("model_type", "llama"),
        ("vocab_size", 9999),
        ("num_hidden_layers", 5),
    ],
)
def test_another_model(checkpoint: Path, field: str, value: Any) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), field: value}), "utf-8")
    error = refused(checkpoint)
    named = {"vocab_size": "model.vocabulary", "num_hidden_layers": "model.layers"}
    assert (error.code, error.field) == ("LS_CONTRACT_ARCHITECTURE", named.get(field, field))
    assert str(value if isinstance(value, int) else value[0]) in error.message


def test_missing_parts(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("[]")
    assert refused(checkpoint).code == "LS_MODEL_CONFIG"
    (checkpoint / "policy.js").unlink()
    assert refused(checkpoint).code == "LS_CONTRACT_POLICY"
    (checkpoint / "lockstep.json").write_text("{")
    assert refused(checkpoint).code == "LS_CONTRACT_SCHEMA"
    (checkpoint / "lockstep.json").unlink()
    assert refused(checkpoint).code == "LS_CONTRACT_MISSING"
