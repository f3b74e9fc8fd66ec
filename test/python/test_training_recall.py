"""Recall documents among the training's texts: what they say, what counts, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
import pytest
from lockstep.bridge.job import Cancelled
from lockstep.chat import TemplateSource
from lockstep.chat.encode import Rule
from lockstep.errors import LockstepError
from lockstep.needles.templates import TEMPLATES
from lockstep.training import data

TOKENIZER = make_tiny.tokenizer()
SIZE = TOKENIZER.get_vocab_size()
END, STOP = TOKENIZER.token_to_id("<|endoftext|>"), TOKENIZER.token_to_id("<|im_end|>")
RULE = Rule(
    TemplateSource(make_tiny.CHAT, "chat_template.jinja", {}),
    ends=frozenset([END, STOP]),
    end=END,
)
PROSE = "It rained for days. Nobody went out! Was it the end? The river rose, and rose again.\n\n"
LENGTH = 1500


def reading(root: Path, **more: Any) -> data.ReadOptions:
    return data.ReadOptions(root / "cache", chat=RULE, **more)


def corpus_of(root: Path, own: Path | None = None, text: str = PROSE * 400) -> data.Corpus:
    (root / "a.txt").write_text(text, encoding="utf-8")
    return data.load(("a.txt",), root, TOKENIZER, SIZE, reading(root), own=own)


def written(
    root: Path, corpus: data.Corpus, chat: bool = True, seed: int = 0, share: float = 0.3
) -> Path:
    options = data.RecallRows(share, (LENGTH, LENGTH // 2 + 300), 2)
    return data.write_rows(options, corpus, TOKENIZER, reading(root), chat=chat, seed=seed)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_answer_stands_in_its_text_and_alone_counts(tmp_path: Path) -> None:
    plain = corpus_of(tmp_path)
    path = written(tmp_path, plain)
    rows = rows_of(path)
    openings = [one.needle.split("{key}")[0].strip() for one in TEMPLATES["train"]]
    for row in rows:
        (first, *others) = row["messages"]
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 2
        assert any(opening in first["content"] for opening in openings if opening)
        for answer in row["messages"][1::2]:
            # The value is the answer's end: its last word at the least stands in the text.
            assert answer["content"].split()[-1].strip('"`.') in first["content"]
        assert len({m["content"] for m in others}) == 3
    corpus = corpus_of(tmp_path, own=path)
    chats = [one for one in corpus.documents if one.mask_N is not None]
    assert len(chats) == len(rows) and corpus.entries[-1].format == "messages"
    for row, chat in zip(rows, chats, strict=True):
        counted = np.asarray(chat.ids_N)[np.asarray(chat.mask_N, dtype=bool)].tolist()
        said = [m["content"] for m in row["messages"][1::2]]
        whole = "".join(f"{text}<|im_end|>" for text in said)
        assert TOKENIZER.decode(counted, skip_special_tokens=False) == whole
        assert len(chat.ids_N) <= LENGTH
    share = sum(len(one.ids_N) for one in chats) / corpus.tokens
    assert 0.2 < share < 0.35


def test_a_model_without_a_chat_template_gets_plain_text(tmp_path: Path) -> None:
    path = written(tmp_path, corpus_of(tmp_path), chat=False)
    assert all(list(row) == ["text"] for row in rows_of(path))
    corpus = corpus_of(tmp_path, own=path)
    assert corpus.entries[-1].format == "text" and len(corpus.documents) > 2


def test_rows_are_a_function_of_texts_settings_and_seed(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    path = written(tmp_path, corpus)
    before = path.read_bytes()
    path.unlink()
    assert written(tmp_path, corpus) == path and path.read_bytes() == before
    other = written(tmp_path, corpus, seed=1)
    assert other != path and other.read_bytes() != before
    assert len(rows_of(written(tmp_path, corpus, share=0.5))) > len(rows_of(path))


def test_texts_too_short_for_a_row_are_named(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, text=PROSE * 2)
    with pytest.raises(LockstepError) as caught:
        written(tmp_path, corpus)
    assert caught.value.code == "LS_TRAIN_RECALL" and "data.recall.lengths" in str(caught.value.fix)


def test_a_cancelled_writing_leaves_no_file(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    options = data.RecallRows(0.3, (LENGTH,), 2)
    stopped = data.ReadOptions(tmp_path / "cache", chat=RULE, cancelled=lambda: True)
    with pytest.raises(Cancelled):
        data.write_rows(options, corpus, TOKENIZER, stopped, chat=True, seed=0)
    assert not list((tmp_path / "cache" / "recall").iterdir())
