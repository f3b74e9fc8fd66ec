"""The probe: what is recorded, what is refused, and that a different model does not pass."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lockstep.contract.spec import Spec
from lockstep.errors import LockstepError
from lockstep.operator.model import Model
from lockstep.verification import probe
from tiny import VOCABULARY, text, tiny

LONG = [[1]] * 3


@dataclass
class Contract:
    """As much of a contract as a probe reads."""

    document: dict[str, Any] = field(
        default_factory=lambda: {
            "golden": [{"tokens": text(150, seed)} for seed in range(3)],
            "tokenizer": {"bos": None},
            "trained": None,
        }
    )
    digest: str = "d" * 64


def model(dtype: torch.dtype = torch.float32, most: int = 40, seed: int = 0) -> Model:
    spec = Spec(
        max=most,
        carry=8,
        sinks=2,
        retrieval_size=8,
        recipe="topk",
        retrieval_layers=(1, 2),
        long_heads=tuple(map(tuple, LONG)),
    )
    made = Model(tiny(dtype=dtype, seed=seed), spec)
    made.contract = Contract()
    made.plan = lambda ids: list(range(most, len(ids) + 1, most))  # type: ignore[method-assign]
    return made


def recorded(folder: Path, of: Model | None = None) -> probe.Probe:
    probe.record(folder, of or model())
    found = probe.load(folder, Contract())  # type: ignore[arg-type]
    assert found is not None
    return found


def test_it_crosses_boundaries_and_keeps_rows_on_both_sides(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    assert len(found.tokens) == probe.LEAST and found.boundaries == (40, 80, 120, 160, 200)
    positions = [row.position for row in found.rows]
    assert positions == sorted(set(positions))
    assert {39, 40, 79, 80, 199} <= set(positions) and 24 <= len(positions) <= 48
    for row in found.rows:
        assert len(row.ids) == probe.BEST and list(row.logp) == sorted(row.logp, reverse=True)


def test_segments_longer_than_the_least_length_still_end_twice(tmp_path: Path) -> None:
    found = recorded(tmp_path, model(most=128))
    assert found.boundaries == (128, 256)
    assert len(found.tokens) == 256 + probe.BEYOND


def test_what_is_kept_are_the_trainers_numbers(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    exact = model(torch.float64)
    logp_TV = exact.logits(list(found.tokens), list(found.boundaries), form="tokens").log_softmax(1)
    off = probe.distance(found, logp_TV[[row.position for row in found.rows]])
    assert off.largest < 1e-4
    assert 0 < off.mean <= off.largest


def test_another_models_numbers_are_far_away(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    other = model(seed=1).logits(list(found.tokens), list(found.boundaries)).double().log_softmax(1)
    off = probe.distance(found, other[[row.position for row in found.rows]])
    assert off.mean > 0.5
    row = next(row for row in found.rows if row.position == off.position)
    assert off.expected == row.logp[row.ids.index(off.token)]


def test_numbers_that_are_none_are_infinitely_far(tmp_path: Path) -> None:
    found = recorded(tmp_path)
    logp_PV = torch.full((len(found.rows), VOCABULARY), torch.nan)
    assert probe.distance(found, logp_PV).largest == float("inf")


def test_a_shorter_engine_gets_the_part_that_fits(tmp_path: Path) -> None:
    part = recorded(tmp_path).upto(100)
    assert len(part.tokens) == 100 and part.boundaries == (40, 80)
    assert max(row.position for row in part.rows) < 100


def test_no_file_is_no_probe(tmp_path: Path) -> None:
    assert probe.load(tmp_path, Contract()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: d.update(digest="e" * 64), "LS_PROBE_STALE"),
        (lambda d: d.update(weights="e" * 64), "LS_PROBE_STALE"),
        (lambda d: d.update(probe=2), "LS_PROBE_FILE"),
        (lambda d: d.update(rows=[]), "LS_PROBE_FILE"),
        (lambda d: d["rows"][0].update(position=10_000), "LS_PROBE_FILE"),
        (lambda d: d["rows"][0].update(logp=[None]), "LS_PROBE_FILE"),
        (lambda d: d["rows"][0]["logp"].pop(), "LS_PROBE_FILE"),
        (lambda d: d.pop("tokens"), "LS_PROBE_FILE"),
    ],
)
def test_what_is_no_probe_of_this_checkpoint(tmp_path: Path, change: Any, code: str) -> None:
    recorded(tmp_path)
    file = tmp_path / probe.PROBE_FILE
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    with pytest.raises(LockstepError) as caught:
        probe.load(tmp_path, Contract())  # type: ignore[arg-type]
    assert caught.value.code == code and "lockstep probe" in (caught.value.fix or "")


def test_weights_that_the_contract_names_are_named_in_the_probe(tmp_path: Path) -> None:
    of = model()
    of.contract.document["trained"] = {"weights": {"sha256": "a" * 64}}
    probe.record(tmp_path, of)
    assert probe.load(tmp_path, of.contract).weights == "a" * 64  # type: ignore[union-attr]
    assert probe.current(tmp_path, of.contract)
    with pytest.raises(LockstepError) as caught:
        probe.load(tmp_path, Contract())  # type: ignore[arg-type]
    assert caught.value.field == "weights"


def test_a_sequence_that_rounding_decides_is_passed_over(tmp_path: Path) -> None:
    """The first golden sequence retrieves otherwise once its embeddings are shaken."""
    of = model()
    trace, first, calls = of.trace, of.contract.document["golden"][0]["tokens"], []

    def flickers(ids: Any, cuts: Any = None) -> Any:
        made = trace(ids, cuts)
        if list(ids[:20]) == first[:20]:
            calls.append(len(ids))
            made.boundaries[0].positions[1] += len(calls)
        return made

    of.trace = flickers  # type: ignore[method-assign]
    found = recorded(tmp_path, of)
    assert len(calls) == 2
    assert list(found.tokens[:20]) == of.contract.document["golden"][1]["tokens"][:20]


def test_where_none_is_steady_none_is_recorded(tmp_path: Path) -> None:
    of = model()
    with torch.no_grad():
        of.module.lm_head.weight.mul_(1e4)
    with pytest.raises(LockstepError) as caught:
        probe.record(tmp_path, of)
    assert caught.value.code == "LS_PROBE_UNSTEADY"
    assert not list(tmp_path.iterdir())


def test_weights_without_numbers_are_named(tmp_path: Path) -> None:
    of = model()
    with torch.no_grad():
        of.module.lm_head.weight[3] = torch.nan
    with pytest.raises(LockstepError) as caught:
        probe.record(tmp_path, of)
    assert caught.value.code == "LS_PROBE_NUMBERS"
