"""A few rows of the scheduling matrix (bench/vllm/matrix.py runs a covering set of them)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench" / "vllm"))

import matrix  # noqa: E402

BOUND = 2e-4  # |d log p|, float32, random weights with enlarged scale
#: A retrieval decided by less may come out otherwise: a gap of scores, for `blocks` a relative one
#: of masses.
TIE = 1e-5


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


def row(**changes: Any) -> dict[str, Any]:
    return {
        "budget": 96,
        "batch": 7,
        "preemption": "none",
        "caching": "off",
        "policy": "fixed",
        "sinks": 4,
        "recipe": "anchors",
        "architecture": "llama",
        **changes,
    }


def run(work: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    found = matrix.run(wanted, work, matrix.text_ids())
    assert "error" not in found, found["error"]
    return found


@pytest.mark.parametrize(
    "wanted",
    [
        row(policy="sums", preemption="forced", budget=96),
        row(policy="sentences", preemption="forced", caching="on", architecture="qwen3"),
        row(policy="every", caching="inside", recipe="topk", budget=512),
        row(policy="sums", caching="end", budget=37, sinks=0, architecture="mistral"),
        row(policy="every", batch=1, budget=2048, architecture="qwen2"),
        row(policy="sums", preemption="forced", recipe=matrix.LATEST),
        row(
            policy="sentences",
            preemption="forced",
            caching="on",
            sinks=0,
            recipe=matrix.LATEST,
            architecture="qwen3",
        ),
        row(policy="every", caching="inside", budget=37, recipe=matrix.LATEST),
        row(policy="every", recipe="blocks", budget=2048, batch=1, architecture="qwen2"),
    ],
    ids=lambda wanted: "-".join(str(value) for value in wanted.values()),
)
def test_the_engine_computes_what_the_operator_computes(work: Path, wanted: dict[str, Any]) -> None:
    found = run(work, wanted)
    assert found["flips"] == 0
    assert max(found["prompt"], found["decode"]) <= BOUND
    assert all(one["gap"] <= TIE for one in found["mismatches"])
    assert found["boundaries"] > 10 * wanted["batch"] / 7 and found["retrievals"] > 0
    assert found["cut"] == 0
    assert (found["preemptions"] > 0) == (wanted["preemption"] == "forced")
    if wanted["caching"] in ("inside", "end"):
        assert any(hit["at"] == wanted["caching"] for hit in found["hits"])
    assert found["tokens"] >= matrix.ANSWER[wanted["preemption"]] * wanted["batch"]


def test_a_carry_that_is_one_token_shorter_shows(work: Path) -> None:
    """The control: the same comparison against a contract that differs by one token of carry."""
    wanted = row(policy="sums", batch=1)
    found = against(work, wanted, carry=15)
    assert max(found["prompt"], found["decode"]) > 100 * BOUND


def test_a_distance_that_is_one_token_longer_shows(work: Path) -> None:
    """The control of retrieval: what is chosen at another distance is no near-tie."""
    wanted = row(policy="sums", batch=1, recipe=matrix.LATEST)
    sizes = matrix.RECIPES[matrix.LATEST]["sizes"]
    found = against(work, wanted, sizes={**sizes, "distance": sizes["distance"] + 1})
    assert max(one["gap"] for one in found["mismatches"]) > 100 * TIE


def against(work: Path, wanted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The row compared with a contract that differs by these changes."""
    import checkpoints

    matrix.checkpoint(work, wanted)
    least, most = matrix.LIMITS[wanted["policy"]]
    other = checkpoints.attach(
        work / f"other {wanted['recipe']}",
        work / wanted["architecture"],
        policy=wanted["policy"],
        least=least,
        most=most,
        long=matrix.LONG,
        **{**matrix.RECIPES[wanted["recipe"]], **changes},
    )
    return run(work, {**wanted, "against": str(other)})
