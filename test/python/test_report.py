"""The report's passes measure what `Model` and `full` compute; its retrieval maps count rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from lockstep import full
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.evaluation.report.__main__ import _base, _way
from lockstep.evaluation.report.passes import Pass, cache_bytes, full_attention, segmented
from lockstep.evaluation.report.retrieval_maps import retrieval_maps
from lockstep.loader import load_module
from lockstep.operator.model import Model
from tiny import text, tiny
from transformers import DynamicCache

SPEC = Spec(
    max=16,
    carry=4,
    sinks=2,
    retrieval_size=8,
    recipe="topk",
    retrieval_layers=(1, 2),
    long_heads=((0,), (1,), (0, 1)),
)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_module(tiny("llama"), SPEC)


def test_a_segmented_pass_is_the_models_own(model: Model) -> None:
    ids = text(100)
    run = segmented(model, ids)
    assert run.nll == pytest.approx(model.nll(ids).tolist(), abs=1e-12)
    assert run.boundaries == model.plan(ids)
    for found, boundary in zip(run.retrieved, model.retrievals(ids), strict=True):
        assert found.keys() == boundary.positions.keys() == {1, 2}
        for layer, positions_HR in found.items():
            assert torch.equal(positions_HR, boundary.positions[layer])


def test_what_is_held_grows_by_the_pool_alone(model: Model) -> None:
    points = segmented(model, text(96)).points
    assert [point.tokens for point in points] == [16, 32, 48, 64, 80, 96]
    assert [p.seconds for p in points] == sorted(p.seconds for p in points)
    state = model.state()
    model.step(state, text(96)[:16])  # the segment is whole, and not yet given up
    assert points[0].held == sum(state.nbytes().values())
    # Three long heads have pools; a token is a key and a value of 8 float64 in each.
    grown = points[-1].held - points[2].held
    assert 48 * 3 * 2 * 8 * 8 <= grown <= 1.6 * 48 * 3 * 2 * 8 * 8


def test_full_attention_by_length(model: Model) -> None:
    ids = text(64)
    run = full_attention(model, ids, [64, 16, 32])
    assert [point.tokens for point in run.points] == [16, 32, 64]
    assert run.nll == pytest.approx(full.nll(model, ids).tolist(), abs=1e-12)
    # Two KV heads of three layers, a key and a value of 8 float64 each.
    assert cache_bytes(model) == 2 * 3 * 2 * 8 * 8
    cache = DynamicCache(config=model.config)
    full.nll(model, ids, cache)
    filled = sum(x.nbytes for layer in cache.layers for x in (layer.keys, layer.values))
    assert run.points[-1].held == filled == 64 * cache_bytes(model)


def test_hit_maps_count_every_retrieved_row() -> None:
    # Two heads, sinks 2: pool position p is token p + 2; 200 tokens make columns of 4 tokens.
    first = {5: torch.tensor([[0, 1, 2], [0, 1, 2]])}
    second = {5: torch.tensor([[0, 50, 97], [1, 51, 97]])}
    run = Pass([], [], [9, 101], [first, second])
    maps = retrieval_maps(run, 2, 200)
    assert maps is not None
    assert maps["bin"] == 4
    (one,) = maps["maps"]
    rows = one["rows"]
    # Tokens 2, 3 and 4 in both heads; the boundary stands inside the third column.
    assert rows[0][:4] == [2 / 4, 1 / 4, 0.0, None]
    assert [b for b, share in enumerate(rows[1]) if share] == [0, 13, 24]
    # Token 99 of both heads, in the column [96, 100).
    assert rows[1][24] == 1 / 4
    assert rows[1][25] == 0.0
    assert rows[1][26] is None
    total = sum(share * 2 * min(4, 101 - 4 * b) for b, share in enumerate(rows[1]) if share)
    assert total == pytest.approx(6)
    assert one["back"] == 6.0


def test_nothing_retrieved_has_no_map(model: Model) -> None:
    assert retrieval_maps(Pass([], [], [], []), 2, 100) is None


def test_a_loss_that_is_no_number_is_named() -> None:
    broken = Pass([1.0, 2.0, math.nan], [])
    with pytest.raises(LockstepError, match="got nan after token 2") as caught:
        _way(broken, [4], 2)
    assert caught.value.code == "LS_REPORT_NAN"
    assert _way(Pass([900.0, 900.0], []), [3], 2)["perplexity"] == {"3": math.exp(700)}


def test_a_device_that_is_not_there_is_named() -> None:
    for device in ("nonsense", *(() if torch.cuda.is_available() else ("cuda",))):
        with pytest.raises(LockstepError, match=device) as caught:
            load_module("nowhere", device=device)
        assert caught.value.code == "LS_DEVICE"


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff"])
def test_a_base_whose_settings_are_no_json_object(tmp_path: Path, config: bytes) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_bytes(config)
    document = {"heads": {"long": [[]]}, "tokenizer": {"size": 8, "sha256": "x"}}
    with pytest.raises(LockstepError, match=r"a JSON object in .*config\.json") as caught:
        _base(tmp_path, None, {"base": "base"}, document)
    assert caught.value.code == "LS_REPORT_BASE" and caught.value.fix
