"""Documents, sequences, budget and learning rate: what a training is fed and how far it goes."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import make_tiny
import numpy as np
import pytest
from lockstep.errors import LockstepError
from lockstep.planner import plan
from lockstep.training import data
from lockstep.training.data.corpus import pieces
from lockstep.training.schedule import Budget, learning_rate

TOKENIZER = make_tiny.tokenizer()
ROOT = Path(__file__).resolve().parents[2]
SIZE = TOKENIZER.get_vocab_size()


def load(root: Path, *patterns: str, vocabulary: int = SIZE) -> data.Corpus:
    return data.load(patterns or ("*.txt",), root, TOKENIZER, vocabulary)


BUNDLE = """
import { bundlePolicy } from './dist/contract/bundle.js';
import { delimiters } from './dist/policies/index.js';
const { source } = await bundlePolicy(delimiters({ tokens: [1] }));
process.stdout.write(source);
"""


@pytest.fixture(scope="module")
def contract() -> Any:
    """What a planner needs of a contract: cuts after tokens 10, 11, ..., segments up to 16."""
    command = ["node", "--input-type=module", "-e", BUNDLE]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = {
        "policy": {"name": "delimiters"},
        "tables": {"tokens": list(range(0, 1000, 10)), "strings": None},
        "segment": {"min": 2, "max": 16, "align": 1},
        "tokenizer": {"size": 2000},
    }
    return SimpleNamespace(document=document, policy_source=made.stdout)


def document(length: int, name: str = "d") -> data.Document:
    return data.Document(name, np.arange(length, dtype=np.int32))


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
    assert {(Path(p).name, why) for p, why in corpus.skipped} == {
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
    assert caught.value.code == "LS_TRAIN_TEXT" and caught.value.mend


def test_windows_line_ends_reach_the_model_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "dos.txt").write_bytes(b"first\r\nsecond\r\n")
    [only] = load(tmp_path).documents
    assert TOKENIZER.decode(only.ids_N.tolist()) == "first\r\nsecond\r\n"


def test_an_id_beyond_the_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the cat")
    with pytest.raises(LockstepError) as caught:
        load(tmp_path, vocabulary=100)
    assert caught.value.code == "LS_TRAIN_VOCABULARY"


def test_pieces_join_to_the_text_and_end_with_lines() -> None:
    text = "".join(f"line {i}\n" for i in range(500)) + "x" * 300
    parts = list(pieces(text, 100))
    assert "".join(parts) == text and max(map(len, parts)) <= 100
    assert all(part.endswith("\n") for part in parts[:40])
    assert list(pieces("")) == []


@pytest.mark.parametrize("bos", [None, 7])
@pytest.mark.parametrize("length", [2, 3, 64])
def test_an_epoch_sees_every_token_once_and_never_mixes_documents(
    length: int, bos: int | None, contract: Any
) -> None:
    documents = [document(n, str(n)) for n in (2, 63, 64, 65, 1000)]
    drawn = data.Sequences(documents, length, 3, bos, contract)
    for epoch in range(3):
        seen = [np.zeros(len(d.ids_N), dtype=int) for d in documents]
        for index, start, end in drawn.windows(epoch):
            assert 0 < end - start <= length - (bos is not None)
            seen[index][start:end] += 1
        for counts in seen:
            # Only a window of a single token, which holds no target, may fall out.
            assert counts.max() == 1 and (counts == 0).sum() <= (2 if bos is None else 0)


def test_sequences_are_a_function_of_the_seed_and_the_cursor(contract: Any) -> None:
    documents = [document(n) for n in (100, 300)]

    def draw(seed: int, cursor: data.Cursor, count: int) -> list[list[int]]:
        drawn = data.Sequences(documents, 16, seed, 5, contract)
        return [one.ids for one in drawn.take(cursor, count)]

    whole = draw(1, data.Cursor(), 80)
    cursor = data.Cursor()
    assert draw(1, cursor, 37) + draw(1, cursor, 43) == whole
    assert cursor.epoch == 2
    assert draw(2, data.Cursor(), 80) != whole
    assert all(ids[0] == 5 and 2 <= len(ids) <= 16 for ids in whole)
    assert whole[:28] != whole[28:56]


def test_ranks_share_what_one_process_takes(contract: Any) -> None:
    sequences = data.Sequences([document(n) for n in (100, 300)], 40, 1, None, contract)
    cursor = data.Cursor()
    whole = [sequences.take(cursor, 5) for _ in range(4)]
    for world in (2, 3, 7):
        cursors = [data.Cursor() for _ in range(world)]
        for step in whole:
            parts = [sequences.take(cursors[rank], 5, rank, world) for rank in range(world)]
            assert [parts[i % world][i // world] for i in range(5)] == step
            assert sum(map(len, parts)) == 5
        assert all(c == cursor for c in cursors)


def test_what_is_drawn_carries_its_boundaries(contract: Any) -> None:
    sequences = data.Sequences([document(200)], 64, 1, None, contract)
    drawn = sequences.take(data.Cursor(), 4)
    assert [one.boundaries for one in drawn] == [plan(contract, one.ids) for one in drawn]
    assert max(len(one.boundaries) for one in drawn) >= 4


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
