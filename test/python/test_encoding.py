"""One way from texts to ids: nothing in tokenizer.json shortens a text or fills it up, and native
code that panics is an error like any other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
import pytest
from lockstep.errors import LockstepError
from lockstep.tokenizer.encoding import LIMIT, encodings, token_ids, token_ids_of_all
from lockstep.tokenizer.file import load_tokenizer
from lockstep.training import data

TEXTS = ["The harbour was quiet that morning, and the boats lay still. " * n for n in (1, 3, 40)]
TRUNCATION = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 64},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<pad>",
}
# Qwen2's, which goes back over blanks.
BLANKS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def folder(path: Path, **fields: Any) -> Path:
    """A folder with the tiny tokenizer, ``fields`` set in its tokenizer.json."""
    path.mkdir(parents=True)
    value = json.loads(make_tiny.tokenizer().to_str()) | fields
    (path / "tokenizer.json").write_text(json.dumps(value), "utf-8")
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {"truncation": TRUNCATION},
        {"padding": PADDING},
        {"truncation": TRUNCATION} | {"padding": PADDING},
    ],
)
def test_limits_of_a_training_of_before(tmp_path: Path, fields: dict[str, Any]) -> None:
    plain = load_tokenizer(folder(tmp_path / "plain"))
    limited = load_tokenizer(folder(tmp_path / "limited", **fields))
    for text in TEXTS:
        assert token_ids(limited, text) == token_ids(plain, text)
    assert list(token_ids_of_all(limited, TEXTS)) == list(token_ids_of_all(plain, TEXTS))
    (one,) = encodings(limited, TEXTS[-1:], offsets=True)
    assert one.ids == token_ids(plain, TEXTS[-1])
    assert one.offsets[-1][1] == len(TEXTS[-1])
    assert len(one.ids) > TRUNCATION["max_length"]


def test_one_place_opens_tokenizers() -> None:
    package = Path(encodings.__code__.co_filename).parents[1]
    opened = re.compile(r"\bTokenizer\.from_")
    found = [
        str(p.relative_to(package))
        for p in package.rglob("*.py")
        if opened.search(p.read_text("utf-8"))
    ]
    assert found == ["tokenizer/file.py"]


def test_a_corpus_is_whole(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (tmp_path / "t.jsonl").write_text(rows, "utf-8")
    both = []
    for name, fields in {
        "plain": {},
        "limited": {"truncation": TRUNCATION, "padding": PADDING},
    }.items():
        tokenizer = load_tokenizer(folder(tmp_path / name, **fields))
        reading = data.ReadOptions(
            tmp_path / f"cache-{name}", "text", False, lambda *_, **__: None, lambda: False
        )
        corpus = data.load(("t.jsonl",), tmp_path, tokenizer, tokenizer.get_vocab_size(), reading)
        both.append([np.asarray(one.ids_N).tolist() for one in corpus.documents])
    assert both[0] == both[1]
    wanted = [token_ids(load_tokenizer(tmp_path / "plain"), text) for text in TEXTS]
    assert sorted(both[0]) == sorted(wanted)


def test_blanks_without_end(tmp_path: Path) -> None:
    split = {"type": "Split", "pattern": {"Regex": BLANKS}, "behavior": "Isolated", "invert": False}
    tokenizer = load_tokenizer(folder(tmp_path / "blanks", pre_tokenizer=split))
    text = "a" + " " * (LIMIT + 1) + "b"
    with pytest.raises(LockstepError) as caught:
        token_ids(tokenizer, text)
    assert caught.value.code == "LS_TEXT_UNSPLITTABLE"
    assert str(LIMIT + 1) in caught.value.message


def test_native_code_that_panics(tmp_path: Path) -> None:
    """A pattern that an operator trusts may go further back than the check expects."""
    split = {"type": "Split", "pattern": {"Regex": BLANKS}, "behavior": "Isolated", "invert": False}
    tokenizer = load_tokenizer(folder(tmp_path / "panics", pre_tokenizer=split))
    text = "a" + " " * 11_000_000 + "b"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(LockstepError) as caught:
        patch.setattr("lockstep.tokenizer.encoding.LIMIT", 1 << 30)
        token_ids(tokenizer, text)
    assert caught.value.code == "LS_TEXT_UNSPLITTABLE"
    assert "retry-limit" in caught.value.message
