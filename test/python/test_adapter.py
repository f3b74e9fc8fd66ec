"""The adapter beside a merged checkpoint: PEFT's layout, whose it is, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lockstep.contract.reader import read as read_contract
from lockstep.errors import LockstepError
from lockstep.loader import load_module
from lockstep.training import lora, manifest
from lockstep.verification import probe
from lockstep.weights import adapter
from lockstep.weights import reader as weights
from safetensors.torch import load_file, save_file
from training_run import Run, same

LORA = {"rank": 4, "alpha": 8, "modules": ["q_proj", "k_proj", "o_proj", "down_proj"]}


@pytest.fixture(scope="module")
def out(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a training of adapters alone."""
    out = tmp_path_factory.mktemp("adapter") / "out"
    Run(home, out, lora=LORA, trainable=[], steps=3)
    return out


def test_the_adapter_names_its_contract_and_its_base(home: Path, out: Path) -> None:
    found = adapter.read(out / lora.FOLDER)
    base = read_contract(home / "start")
    assert found.contract == base.digest
    assert found.base == weights.identify(weights.read(home / "start"))["sha256"]
    assert (found.rank, found.alpha, len(found.modules)) == (4, 8.0, 16)
    adapter.check(found, base.document)
    assert manifest.damaged(out) == []
    assert {f"{lora.FOLDER}/{adapter.SEAL}", f"{lora.FOLDER}/{adapter.TENSORS}"} <= set(
        manifest.read(out)
    )
    # The checkpoint that has it merged in is another model.
    with pytest.raises(LockstepError) as merged:
        adapter.check(found, read_contract(out).document)
    assert merged.value.code == "LS_ADAPTER_BASE"


def test_peft_reads_it_and_merges_it_to_the_checkpoint(home: Path, out: Path) -> None:
    from peft import PeftModel

    base = load_module(home / "start")
    merged = PeftModel.from_pretrained(base, out / lora.FOLDER).merge_and_unload()
    ours, theirs = load_file(out / "model.safetensors"), merged.state_dict()
    moved = 0
    for name, weight in ours.items():
        assert torch.allclose(weight, theirs[name], atol=1e-6), name
        moved += not torch.equal(weight, load_file(home / "start/model.safetensors")[name])
    assert moved == 16


def test_a_training_of_more_than_adapters_writes_none(home: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "norms", lora=LORA, trainable=["*norm.weight"], steps=1)
    Run(home, tmp_path / "whole", steps=1)
    Run(home, tmp_path / "full", lora=LORA, trainable=[], steps=1, attention="full")
    for name in ("norms", "whole", "full"):
        assert not (tmp_path / name / lora.FOLDER).exists()
    with pytest.raises(LockstepError) as error:
        adapter.read(tmp_path / "norms" / lora.FOLDER)
    assert error.value.code == "LS_ADAPTER_FILE" and "training.lora" in (error.value.fix or "")


def test_a_resumed_training_writes_the_same_adapter(home: Path, out: Path, tmp_path: Path) -> None:
    Run(home, tmp_path / "parts", lora=LORA, trainable=[], steps=3, stop_after=1)
    Run(home, tmp_path / "parts", lora=LORA, trainable=[], steps=3, resume=True)
    assert same(out, tmp_path / "parts")
    assert adapter.read(tmp_path / "parts/adapter").sha256 == adapter.read(out / "adapter").sha256


def test_its_probe_is_the_merged_checkpoints_own(home: Path, out: Path, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    probe.record(copy)
    found = adapter.read(copy / lora.FOLDER)
    probe.record_adapter(copy, found)
    contract = read_contract(home / "start")
    own = probe.load(copy / lora.FOLDER, contract, found.sha256)
    merged = probe.load(copy, read_contract(copy))
    assert own is not None and merged is not None and own.rows == merged.rows
    with pytest.raises(LockstepError) as stale:
        probe.load(copy / lora.FOLDER, contract)
    assert stale.value.code == "LS_PROBE_STALE"


def edited(name: str, **fields: Any) -> Callable[[Path], None]:
    """Other fields in a JSON file; None leaves one out."""

    def edit(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) | fields
        text = json.dumps({k: v for k, v in value.items() if v is not None})
        (folder / name).write_text(text)

    return edit


def resealed(edit: Callable[[Path], None]) -> Callable[[Path], None]:
    """An edit whose author also wrote the seal again."""

    def both(folder: Path) -> None:
        edit(folder)
        old = json.loads((folder / adapter.SEAL).read_text())
        adapter.seal(folder, old["contract"], old["base"], old["trained"])

    return both


def retensored(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / adapter.TENSORS)
        change(tensors)
        save_file(tensors, folder / adapter.TENSORS)

    return resealed(edit)


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
SHA = "0" * 64
WRONG: dict[str, tuple[str, Callable[[Path], None]]] = {
    "no seal": ("LS_ADAPTER_FILE", lambda f: (f / adapter.SEAL).unlink()),
    "no config": ("LS_ADAPTER_FILE", lambda f: (f / adapter.CONFIG).unlink()),
    "no tensors": ("LS_ADAPTER_FILE", lambda f: (f / adapter.TENSORS).unlink()),
    "no JSON": ("LS_ADAPTER_FILE", lambda f: (f / adapter.SEAL).write_text("[")),
    "format": ("LS_ADAPTER_FILE", edited(adapter.SEAL, adapter=2)),
    "no digest": ("LS_ADAPTER_FILE", edited(adapter.SEAL, contract="x")),
    "alpha": ("LS_ADAPTER_FILE", edited(adapter.CONFIG, lora_alpha=16)),
    "other tensors": (
        "LS_ADAPTER_FILE",
        lambda f: save_file({"x": torch.zeros(1)}, f / adapter.TENSORS),
    ),
    "contract": ("LS_ADAPTER_CONTRACT", edited(adapter.SEAL, contract=SHA)),
    "base": ("LS_ADAPTER_BASE", edited(adapter.SEAL, base=SHA)),
    "rank-stabilized": ("LS_ADAPTER_FILE", resealed(edited(adapter.CONFIG, use_rslora=True))),
    "bias": ("LS_ADAPTER_FILE", resealed(edited(adapter.CONFIG, bias="all"))),
    "rank": ("LS_ADAPTER_TENSORS", resealed(edited(adapter.CONFIG, r=8))),
    "large rank": ("LS_ADAPTER_RANK", resealed(edited(adapter.CONFIG, r=513))),
    "one B less": (
        "LS_ADAPTER_FILE",
        retensored(lambda t: t.__delitem__(FIRST.replace("lora_A", "lora_B"))),
    ),
    "a norm": ("LS_ADAPTER_FILE", retensored(lambda t: t.update(norm=torch.zeros(2)))),
    "shape": (
        "LS_ADAPTER_TENSORS",
        retensored(lambda t: t.update({FIRST: t[FIRST][:, :-1].contiguous()})),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_adapter_that_is_not_this_ones_is_refused(
    home: Path, out: Path, tmp_path: Path, name: str
) -> None:
    code, edit = WRONG[name]
    folder = tmp_path / "adapter"
    shutil.copytree(out / lora.FOLDER, folder)
    edit(folder)
    with pytest.raises(LockstepError) as error:
        adapter.check(adapter.read(folder), read_contract(home / "start").document)
    assert error.value.code == code and error.value.fix
