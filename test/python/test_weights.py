"""Weights: the table against transformers' own models, and the cache of hashes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lockstep.contract.shape import shape_of
from lockstep.contract.shape_fields import read_fields
from lockstep.errors import LockstepError
from lockstep.weights import reader as weights
from lockstep.weights.hash import cache_file, hash_once
from lockstep.weights.table import IGNORED, expected_tensors
from safetensors.torch import load_file, save_file
from tiny import ARCHITECTURES, CLASSES, tiny

CASES = [
    {"architecture": architecture, "tied": tied, "bias": bias, **sizes}
    for architecture in ARCHITECTURES
    for tied in (False, True)
    for bias in (False, True)
    for sizes in (
        {"layers": 2, "kv_heads": 2, "group": 2, "head_dim": 8},
        {"layers": 1, "kv_heads": 1, "group": 3, "head_dim": 16, "hidden": 24},
    )
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_the_table_is_the_state_dict_of_transformers(case: dict[str, Any], tmp_path: Path) -> None:
    module = tiny(**case, dtype=torch.float32)
    module.save_pretrained(tmp_path)
    read = weights.read(tmp_path)  # refuses what the table has not, and the other way round
    saved = {name: list(t.shape) for name, t in module.state_dict().items()}
    if case["tied"]:
        assert saved.pop("lm_head.weight") == saved["model.embed_tokens.weight"]
    assert expected_tensors(shape_of(read_fields(tmp_path))) == saved
    assert {name: stored.shape for name, stored in read.tensors.items()} == saved


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_config_leaves_out_is_what_transformers_takes(
    architecture: str, tmp_path: Path
) -> None:
    """KV heads, head size, ties and biases: transformers' own defaults, by a model without data."""
    config_class, model_class = CLASSES[architecture]
    given = {"hidden_size": 256, "num_attention_heads": 32, "num_hidden_layers": 2}
    given |= {"intermediate_size": 24, "vocab_size": 11, "model_type": architecture}
    if architecture == "mistral":
        given["sliding_window"] = None
    (tmp_path / "config.json").write_text(json.dumps(given))
    with torch.device("meta"):
        module = model_class(config_class.from_pretrained(tmp_path))
    wanted = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    assert expected_tensors(shape_of(read_fields(tmp_path))) == wanted


def test_old_inverse_frequencies_are_ignored() -> None:
    for name in ("model.layers.11.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"):
        assert IGNORED.fullmatch(name)
    assert not IGNORED.fullmatch("model.layers.0.self_attn.rotary_emb.cos_cached")


def test_a_head_of_equal_bytes_is_tied_when_loaded(tmp_path: Path) -> None:
    from lockstep.loader import load_module

    tiny(tied=True, dtype=torch.float32).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    held = load_file(file)
    save_file({**held, "lm_head.weight": held["model.embed_tokens.weight"].clone()}, file)
    module = load_module(tmp_path)
    assert module.lm_head.weight is module.model.embed_tokens.weight
    save_file({**held, "lm_head.weight": held["model.embed_tokens.weight"] + 1}, file)
    with pytest.raises(LockstepError, match="to equal") as caught:
        load_module(tmp_path)
    assert caught.value.code == "LS_MODEL_WEIGHTS_TIED"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is old enough to be remembered, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "file"
    file.write_bytes(b"weights")
    os.utime(file, ns=(10**18, 10**18))
    return file


def entries() -> dict[str, str]:
    return json.loads(cache_file().read_text()) if cache_file().exists() else {}


def test_a_hash_is_remembered_while_the_file_stays(cached: Path) -> None:
    first = hash_once(cached, cached_from=1)
    assert list(entries().values()) == [first]
    [key] = entries()
    cache_file().write_text(json.dumps({key: "0" * 64}))  # what is remembered is what is returned
    assert hash_once(cached, cached_from=1) == "0" * 64
    os.link(cached, cached.with_name("link"))
    assert hash_once(cached.with_name("link"), cached_from=1) == "0" * 64
    assert hash_once(cached) == first  # small files are not looked up
    cached.write_bytes(b"Weights")
    assert hash_once(cached, cached_from=1) not in (first, "0" * 64)
    assert cache_file().stat().st_mode & 0o077 == 0


def test_a_file_that_changed_just_now_is_not_remembered(cached: Path) -> None:
    os.utime(cached)
    hash_once(cached, cached_from=1)
    assert entries() == {}


def test_a_part_of_a_file(cached: Path) -> None:
    part = cached.with_name("part")
    part.write_bytes(cached.read_bytes()[2:5])
    assert hash_once(cached, (2, 5), cached_from=1) == hash_once(part)


@pytest.mark.parametrize("what", ["folder", "file", "link", "damaged", "no room"])
def test_a_cache_that_others_may_write_is_not_believed(cached: Path, what: str) -> None:
    right = hash_once(cached, cached_from=1)
    [key] = entries()
    forged = json.dumps({key: "0" * 64})
    cache_file().write_text(forged)
    if what == "folder":
        cache_file().parent.chmod(0o777)
    elif what == "file":
        cache_file().chmod(0o666)
    elif what == "link":
        (cache_file().parent / "other").write_text(forged)
        cache_file().unlink()
        cache_file().symlink_to("other")
    elif what == "damaged":
        cache_file().write_text(forged[:-2])
    else:
        shutil.rmtree(cache_file().parent)
        cache_file().parent.write_text("a file where the folder would be")
    assert hash_once(cached, cached_from=1) == right
