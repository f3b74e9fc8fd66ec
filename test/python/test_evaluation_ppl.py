"""Perplexity by length and position: windows of real text, intervals, rows against each other."""

from __future__ import annotations

import json
import math
from pathlib import Path

import make_tiny
import numpy as np
import pytest
import torch
from lockstep.errors import LockstepError
from lockstep.evaluation import intervals
from lockstep.evaluation.intervals import Blocks
from lockstep.evaluation.loss_files import loss_file
from lockstep.evaluation.summary import summarize
from lockstep.evaluation.windows import FILE, cut_windows
from lockstep.operator import lm_head
from lockstep.tokenizer.first_tokens import encode

LICENSE = Path(__file__).parents[2] / "LICENSE"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny.write(tmp_path_factory.mktemp("tiny"))


def describe(checkpoint: Path, texts: list[Path], **changes: object) -> dict:
    asked = {"dir": str(checkpoint), "texts": [str(text) for text in texts], "skip": 0}
    return {**asked, "lengths": [40, 80], "windows": 3, "bos": None, "exact": True, **changes}


def read(folder: Path) -> list[dict]:
    return json.loads((folder / FILE).read_text(encoding="utf-8"))


def test_windows_tile_each_text_in_turn(checkpoint: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.txt"
    second.write_text(LICENSE.read_text(encoding="utf-8")[5000:5200], encoding="utf-8")
    found = cut_windows(tmp_path, describe(checkpoint, [LICENSE, second], windows=5))
    first_ids, second_ids = (
        encode(checkpoint, path.read_text(encoding="utf-8")) for path in (LICENSE, second)
    )
    assert 160 <= len(second_ids) < 240
    texts = [Path(window["text"]) for window in read(tmp_path)]
    assert texts == [LICENSE, second, LICENSE, second, LICENSE]
    ids = [window["ids"] for window in read(tmp_path)]
    assert ids[0] + ids[2] + ids[4] == first_ids[:240]
    assert ids[1] + ids[3] == second_ids[:160]
    assert found["lengths"] == [40, 80] and found["skipped"] == []


def test_windows_begin_with_bos_and_skip_characters(checkpoint: Path, tmp_path: Path) -> None:
    cut_windows(tmp_path, describe(checkpoint, [LICENSE], bos=0, skip=100))
    ids = encode(checkpoint, LICENSE.read_text(encoding="utf-8")[100:])
    expected = [[0, *ids[at : at + 79]] for at in (0, 79, 158)]
    assert [window["ids"] for window in read(tmp_path)] == expected


def test_lengths_that_the_text_cannot_give(checkpoint: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text(LICENSE.read_text(encoding="utf-8")[:600], encoding="utf-8")
    asked = describe(checkpoint, [short], lengths=[64, 128, 4096])
    with pytest.raises(LockstepError, match="at least 4096 tokens") as caught:
        cut_windows(tmp_path, asked)
    assert caught.value.code == "LS_TEXT_SHORT"
    found = cut_windows(tmp_path, {**asked, "exact": False})
    assert (found["lengths"], found["skipped"]) == ([64, 128], [4096])
    with pytest.raises(LockstepError, match=r"texts that .* was made from") as caught:
        cut_windows(tmp_path, {**asked, "exact": False, "skip": 1})
    assert caught.value.code == "LS_EVAL_RESUME"
    with pytest.raises(LockstepError, match="at least 2 tokens"):
        cut_windows(tmp_path, {**asked, "lengths": [1]})


def fake_rows(folder: Path, seed: int, windows: int = 6, length: int = 1025) -> dict[str, list]:
    """Losses of two rows: b is a tenth worse than a on every token; and what they are."""
    rng = np.random.default_rng(seed)
    (folder / FILE).write_text(
        json.dumps([{"text": "t", "ids": [0] * length} for _ in range(windows)]), encoding="utf-8"
    )
    rows: dict[str, list] = {"a": [], "b": []}
    for n in range(windows):
        a = rng.gamma(2.0, 1.5, size=length - 1)
        for name, part in (("a", a), ("b", a + 0.1)):
            part.tofile(loss_file(folder, name, n))
            rows[name].append(part)
    return rows


def test_summary_equals_plain_means_and_pairs_rows(tmp_path: Path) -> None:
    rows = fake_rows(tmp_path, 0)
    asked = {"rows": ["a", "b"], "pairs": [["b", "a"]], "bins": 4}
    found = summarize(tmp_path, [257, 1025], asked)
    for name, parts in rows.items():
        for at, length in zip(found["rows"][name]["byLength"], (257, 1025), strict=True):
            mean = float(np.concatenate([part[: length - 1] for part in parts]).mean())
            assert at["tokens"] == length and at["nll"] == pytest.approx(mean, rel=1e-12)
            assert at["perplexity"] == pytest.approx(math.exp(mean), rel=1e-12)
            assert at["low"] < at["perplexity"] < at["high"]
        bins = found["rows"][name]["byPosition"]
        assert [(one["from"], one["to"]) for one in bins] == [
            (1, 256), (256, 512), (512, 769), (769, 1025),
        ]  # fmt: skip
        third = float(np.concatenate([part[511:768] for part in parts]).mean())
        assert bins[2]["perplexity"] == pytest.approx(math.exp(third), rel=1e-12)
    # A difference that is the same on every token has an interval of no width.
    for one in found["ratios"]:
        assert one["ratio"] == pytest.approx(math.exp(0.1), rel=1e-9)
        assert one["low"] == pytest.approx(one["high"], rel=1e-9)
    assert found == summarize(tmp_path, [257, 1025], asked)


def test_summary_refuses_losses_that_do_not_fit(tmp_path: Path) -> None:
    fake_rows(tmp_path, 0)
    np.array([1.0, math.nan]).tofile(loss_file(tmp_path, "a", 3))
    with pytest.raises(LockstepError, match="row a, window 3") as caught:
        summarize(tmp_path, [257], {"rows": ["a"], "pairs": [], "bins": 4})
    assert caught.value.code == "LS_EVAL_LOSSES"


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """Blocks of dependent losses: 95% intervals hold the true mean in about 95% of trials."""
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        level = np.repeat(rng.normal(0.0, 0.3, size=60), 128)  # what a block has in common
        blocks = Blocks.of([2.0 + level + rng.normal(0.0, 1.0, size=level.size)])
        found = intervals.perplexity(blocks, seed=trial)
        assert found.low is not None and found.high is not None
        held += found.low <= math.exp(2.0) <= found.high
    assert 180 <= held <= 199


def test_few_blocks_have_no_interval() -> None:
    for count, bounded in ((1, False), (7, False), (8, True)):
        found = intervals.perplexity(Blocks.of([np.full(100, 0.5)] * count))
        assert found.value == pytest.approx(math.exp(0.5))
        assert (found.low is not None, found.high is not None) == (bounded, bounded)
        scores = intervals.mean([50.0] * count)
        assert (scores.value, scores.low is not None) == (50.0, bounded)


def test_losses_are_those_of_the_logits() -> None:
    """The chunked loss that every figure comes from, against log_softmax in float64."""
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=False, dtype=torch.float64)
    hidden = torch.randn(600, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(50, (600,), generator=generator)
    with torch.no_grad():
        expected = -torch.log_softmax(linear(hidden), 1).gather(1, targets[:, None])[:, 0]
        assert torch.allclose(lm_head.nll(linear, hidden, targets), expected, atol=1e-12)
