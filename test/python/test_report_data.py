"""Data files of public reports (test/reports/data) as a training reads them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
from lockstep.chat import TemplateSource
from lockstep.chat.encode import Rule
from lockstep.tokenizer.encoding import token_ids
from lockstep.training import data

FILES = Path(__file__).parents[1] / "reports" / "data"
TOKENIZER = make_tiny.tokenizer()
END, STOP = TOKENIZER.token_to_id("<|endoftext|>"), TOKENIZER.token_to_id("<|im_end|>")
RULE = Rule(
    TemplateSource(make_tiny.CHAT, "chat_template.jinja", {}), ends=frozenset([END, STOP]), end=END
)


def read(tmp_path: Path, name: str, rule: Rule | None = None) -> tuple[data.Corpus, list[Any]]:
    """A file's corpus, and the ids of its documents."""
    reading = data.ReadOptions(tmp_path / "cache", chat=rule)
    corpus = data.load((name,), FILES, TOKENIZER, TOKENIZER.get_vocab_size(), reading)
    assert not corpus.skipped
    return corpus, [np.asarray(one.ids_N).tolist() for one in corpus.documents]


def ids(*texts: str) -> list[list[int]]:
    return sorted(token_ids(TOKENIZER, text) for text in texts)


def test_conversations(tmp_path: Path) -> None:
    corpus, documents = read(tmp_path, "msgs.jsonl", RULE)
    assert corpus.entries[0].format == "messages"
    rows = [json.loads(line) for line in (FILES / "msgs.jsonl").read_text("utf-8").splitlines()]
    assert len(documents) == len(rows)
    answer = ids(rows[0]["messages"][1]["content"] + "<|im_end|>")[0]
    for one, whole in zip(corpus.documents, documents, strict=True):
        assert one.mask_N is not None
        counted = np.asarray(one.ids_N)[np.asarray(one.mask_N, dtype=bool)].tolist()
        assert counted == answer and whole[-1] == STOP


def test_documents_end_with_their_end(tmp_path: Path) -> None:
    chat, plain = (
        json.loads(line)["text"] for line in (FILES / "eos.jsonl").read_text("utf-8").splitlines()
    )
    # The first has an end and a line behind it: it is a text, and texts end with the end token.
    assert sorted(read(tmp_path, "eos.jsonl", RULE)[1]) == sorted(
        [*ids(chat + "<|endoftext|>"), *ids(plain + "<|endoftext|>")]
    )


def test_a_table_by_its_column(tmp_path: Path) -> None:
    line = "The harbour was quiet that morning, and the boats lay still. "
    assert sorted(read(tmp_path, "rows.csv")[1]) == ids(line * 3, "second row")


def test_compressed_files(tmp_path: Path) -> None:
    packed = gzip.decompress((FILES / "z.jsonl.gz").read_bytes()).decode()
    expected = ids(*(json.loads(line)["text"] for line in packed.splitlines()))
    for name in ("z.jsonl.gz", "z.jsonl.zst"):
        assert sorted(read(tmp_path, name)[1]) == expected


def test_a_byte_order_mark(tmp_path: Path) -> None:
    text = (FILES / "bom.txt").read_text("utf-8")
    assert text.startswith("\ufeff")
    assert read(tmp_path, "bom.txt")[1] == ids(text.removeprefix("\ufeff"))
