"""Documents, sequences, budget and learning rate: what a training is fed and how far it goes."""

from __future__ import annotations

import math
from pathlib import Path

import make_tiny
import pytest
from lockstep.errors import LockstepError
from lockstep.training import data
from lockstep.training.schedule import Budget, learning_rate

TOKENIZER = make_tiny.tokenizer()
SIZE = TOKENIZER.get_vocab_size()


def load(root: Path, *patterns: str, vocabulary: int = SIZE) -> data.Corpus:
    return data.load(patterns or ("*.txt",), root, TOKENIZER, vocabulary)


def skipped(corpus: data.Corpus) -> set[tuple[str, str]]:
    return {(Path(path).name, why) for path, why in corpus.skipped}


def test_files_are_found_sorted_and_taken_out(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "a_f.txt", "deep/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some text")
    found = data.find(("**/*.txt", "!*_f.txt"), tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in found] == ["a.txt", "b.txt", "deep/c.txt"]


@pytest.mark.parametrize("patterns", [("*.md",), ("a.txt", "!*.txt"), ("a.txt", "no/such.txt")])
def test_a_pattern_without_files_is_named(tmp_path: Path, patterns: tuple[str, ...]) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(LockstepError) as caught:
        data.find(patterns, tmp_path)
    assert caught.value.code == "LS_TRAIN_DATA"
    assert any(p in caught.value.message for p in patterns)


def test_empty_and_one_token_files_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "one.txt").write_bytes(b"x")
    (tmp_path / "bom.txt").write_bytes(b"\xef\xbb\xbf")
    (tmp_path / "text.txt").write_bytes(b"more than one")
    corpus = load(tmp_path)
    assert [Path(d.path).name for d in corpus.documents] == ["text.txt"]
    assert skipped(corpus) == {
        ("empty.txt", "empty"), ("one.txt", "one token"), ("bom.txt", "empty"),
    }  # fmt: skip


def test_only_empty_files_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(LockstepError, match="at least two tokens") as caught:
        load(tmp_path)
    assert caught.value.code == "LS_TRAIN_DATA"


def test_text_that_is_not_utf8_is_named_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("na\u00efve".encode("latin-1"))
    with pytest.raises(LockstepError, match=r"0xef at offset 2 of .*latin\.txt") as caught:
        load(tmp_path)
    assert caught.value.code == "LS_TRAIN_TEXT" and caught.value.fix


def test_windows_line_ends_reach_the_model_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "dos.txt").write_bytes(b"first\r\nsecond\r\n")
    [only] = load(tmp_path).documents
    assert TOKENIZER.decode(only.ids_N.tolist()) == "first\r\nsecond\r\n"


def test_an_id_beyond_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat")
    with pytest.raises(LockstepError) as caught:
        load(tmp_path, vocabulary=100)
    assert caught.value.code == "LS_TRAIN_VOCABULARY"


def test_the_rate_warms_up_peaks_and_ends_at_its_share() -> None:
    rates = [learning_rate(p / 1000, 2.0, 0.1, 0.25) for p in range(1001)]
    assert rates[0] == pytest.approx(0.2) and rates[1000] == pytest.approx(0.5)
    assert max(rates) == pytest.approx(2.0) and rates.index(max(rates)) == 100
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[550] == pytest.approx(0.5 + 1.5 / 2)
    assert learning_rate(0.0, 1.0, 0.0, 0.1) == 1.0
    assert learning_rate(1.0, 1.0, 1.0, 0.1) == pytest.approx(1.0)


def test_a_budget_of_steps_and_one_of_minutes() -> None:
    steps = Budget(4, None)
    assert steps.eta is None and steps.next_progress == 0.25
    for _ in range(4):
        assert not steps.done
        steps.add(2.0)
    assert steps.done and steps.progress == 1.0 and steps.eta == 0.0
    minutes = Budget(None, 1.0)
    count = 0
    while not minutes.done:
        minutes.add(7.0)
        count += 1
    # 9 steps end at 63 s, nearer to 60 s than 8 steps' 56 s.
    assert count == 9 and math.isclose(minutes.seconds, 63.0)
    assert Budget(None, 0.01).done is False
