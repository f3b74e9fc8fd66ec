"""Text, JSON lines, Parquet, Arrow: what is read, what is skipped, what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import make_tiny
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from lockstep.errors import LockstepError
from lockstep.tokenizer.first_tokens import read_part
from lockstep.training import data
from lockstep.training.data.chunks import Place
from lockstep.training.data.readers import read_text
from lockstep.training.data.rows import read, shape_of

TOKENIZER = make_tiny.tokenizer()
SIZE = TOKENIZER.get_vocab_size()
TEXTS = [
    "First of all.",
    "caf\u00e9 \u2014 \U0001f600",
    "",
    "x",
    "line one\nline two\n",
    "The end.",
]
KEPT = [text for text in TEXTS if len(text) > 1]


def load(root: Path, *patterns: str, **options: Any) -> data.Corpus:
    split = {k: options.pop(k) for k in ("fraction", "limit") if k in options}
    reading = data.ReadOptions(root / "cache", **options)
    return data.load(patterns, root, TOKENIZER, SIZE, reading, **split)


def refused(root: Path, *patterns: str, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        load(root, *patterns, **options)
    return caught.value


def texts(corpus: data.Corpus) -> list[str]:
    return [TOKENIZER.decode(d.ids_N.tolist(), skip_special_tokens=False) for d in corpus.documents]


def jsonl(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def dataset(folder: Path, values: list[str | None], shards: int = 2, column: str = "text") -> None:
    """A folder as `datasets.Dataset.save_to_disk` leaves it: IPC streams and state.json."""
    folder.mkdir(parents=True)
    names = []
    for shard in range(shards):
        name = f"data-{shard:05d}-of-{shards:05d}.arrow"
        part = values[shard * len(values) // shards : (shard + 1) * len(values) // shards]
        table = arrow.table(
            {"id": list(range(len(part))), column: arrow.array(part, arrow.string())}
        )
        with arrow.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        names.append({"filename": name})
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": "train"}))


def packed(path: Path, ending: str) -> Path:
    """The same file, compressed, next to it."""
    target = path.with_name(f"{path.name}.{ending}")
    if ending == "gz":
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        with arrow.CompressedOutputStream(str(target), "zstd") as stream:
            stream.write(path.read_bytes())
    return target


def separated(path: Path, rows: list[dict[str, str]], separator: str, mark: str = "") -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)


def test_every_format_gives_the_same_documents(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"id": 1, "text": text} for text in TEXTS])
    (tmp_path / "e.json").write_text(json.dumps([{"text": text} for text in TEXTS]))
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "f.json")  # lines by another name
    separated(tmp_path / "g.csv", [{"id": "1", "text": text} for text in TEXTS], ",")
    separated(tmp_path / "h.tsv", [{"text": text, "id": "1"} for text in TEXTS], "\t", "\ufeff")
    (tmp_path / "i.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    (tmp_path / "j.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "e.json").read_bytes())
    more = ["e.json", "f.json", "g.csv", "h.tsv", "i.jsonl", "j.json"]
    more += [packed(tmp_path / name, ending).name for name in more for ending in ("gz", "zst")]
    table = arrow.table({"text": arrow.array(TEXTS, arrow.large_string()), "n": range(6)})
    parquet.write_table(table, tmp_path / "b.parquet", row_group_size=4)
    dataset(tmp_path / "c", list(TEXTS))
    with arrow.ipc.new_file(str(tmp_path / "d.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.jsonl", "b.parquet", "c", "d.arrow", *more):
        corpus = load(tmp_path, name)
        assert texts(corpus) == KEPT, name
        assert corpus.tokens == sum(len(d.ids_N) for d in corpus.documents)
        reasons = ", ".join(reason for _, reason in corpus.skipped)
        assert sorted(reasons.split(", ")) == ["1 empty", "1 of one token"], name
    everything = load(tmp_path, "a.jsonl", "*.parquet", "c", "d.arrow")
    assert texts(everything) == [*KEPT, *KEPT, *KEPT, *KEPT]


def test_another_field_and_null_rows(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"body": "some words", "text": 3}])
    parquet.write_table(arrow.table({"body": ["some words", None]}), tmp_path / "b.parquet")
    dataset(tmp_path / "c", ["some words", None], column="body")
    jsonl(tmp_path / "d.jsonl", [{"body": "some words"}, {"body": None}])
    (tmp_path / "e.json").write_text('[{"body": "some words"}, {"body": null}]')
    separated(tmp_path / "f.csv", [{"n": "1", "body": "some words"}, {"n": "2", "body": ""}], ",")
    for name in ("a.jsonl", "b.parquet", "c", "d.jsonl", "e.json", "f.csv"):
        corpus = load(tmp_path, name, field="body")
        assert texts(corpus) == ["some words"], name
        reasons = [reason for _, reason in corpus.skipped]
        assert name == "a.jsonl" or "1 empty" in reasons, name
    error = refused(tmp_path, "b.parquet")
    assert error.code == "LS_TRAIN_DATA" and error.field == "data.field" and "body" in error.message


def test_a_text_files_field_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words")
    first, second = (load(tmp_path, "a.txt", field=name) for name in ("text", "body"))
    assert first.documents.digest == second.documents.digest


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "half', "not JSON: Unterminated string"),
        (b'{"text": "\xff"}', "not UTF-8 at byte 11"),
        (b'["text"]', "expected an object, got list"),
        (b'{"body": "x y z"}', "no field 'text', but 'body'"),
        (b"null", "expected an object, got null"),
        (b'{"text": 3}', "expected text in 'text', got int"),
        (b'{"text": "\\ud800"}', "half a surrogate pair"),
        (b"[" * 100_000, "not readable"),
    ],
)
def test_broken_lines_are_named_counted_and_skipped_only_when_asked(
    line: bytes, reason: str, tmp_path: Path
) -> None:
    good = b'{"text": "a good line"}\n'
    (tmp_path / "a.jsonl").write_bytes(good + b"\n" + line + b"\n" + good + line)
    error = refused(tmp_path, "a.jsonl")
    assert error.code == "LS_TRAIN_BROKEN" and "skipBroken" in (error.fix or "")
    assert f"2 broken lines (line 3: {reason}" in error.message and "line 5" in error.message
    corpus = load(tmp_path, "a.jsonl", skip_broken=True)
    assert texts(corpus) == ["a good line", "a good line"]
    [(_, why)] = corpus.skipped
    assert why.startswith(f"2 broken (line 3: {reason}")
    # What is in the cache now is not believed without the flag.
    assert refused(tmp_path, "a.jsonl").message == error.message


def test_a_byte_order_mark_and_windows_lines_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one two"}\r\n{"text": "three"}\r\n')
    assert texts(load(tmp_path, "a.jsonl")) == ["one two", "three"]


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    parquet.write_table(arrow.table({"text": ["some words"] * 100}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    error = refused(tmp_path, "a.parquet")
    assert error.code == "LS_TRAIN_DATA" and "a.parquet" in error.message
    dataset(tmp_path / "c", ["some words"] * 100, shards=1)
    [shard] = (tmp_path / "c").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:700])
    assert refused(tmp_path, "c").code == "LS_TRAIN_DATA"


def test_columns_that_are_no_text_are_named(tmp_path: Path) -> None:
    parquet.write_table(arrow.table({"text": [1, 2]}), tmp_path / "a.parquet")
    assert "got int64" in refused(tmp_path, "a.parquet").message
    dictionary = arrow.array(["some words", "more words"]).dictionary_encode()
    parquet.write_table(arrow.table({"text": dictionary}), tmp_path / "b.parquet")
    assert texts(load(tmp_path, "b.parquet")) == ["some words", "more words"]


def test_folders_that_are_no_dataset_and_datasets_of_splits(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert "plain folder" in refused(tmp_path, "plain").message
    dataset(tmp_path / "both" / "train", ["some words"], shards=1)
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    error = refused(tmp_path, "both")
    assert "train, test" in error.message and "both/train" in (error.fix or "")
    assert texts(load(tmp_path, "both/train")) == ["some words"]
    (tmp_path / "both" / "train" / "data-00000-of-00001.arrow").unlink()
    assert "got none" in refused(tmp_path, "both/train").message


def test_the_folders_own_name_is_no_pattern(tmp_path: Path) -> None:
    root = tmp_path / "a[1] *?"
    (root / "texts").mkdir(parents=True)
    (root / "texts" / "a.txt").write_text("some words")
    (root / "texts" / "b.txt").write_text("more words")
    assert texts(load(root, "texts/*.txt", "!texts/b*")) == ["some words"]
    (tmp_path / "c.txt").write_text("other words")
    assert texts(load(root, f"{tmp_path}/c*.txt")) == ["other words"]
    assert texts(load(root, "../c*.txt")) == ["other words"]


def test_reading_goes_on_where_it_stopped_in_every_format(tmp_path: Path) -> None:
    """From every place that a reader gives, the rest is what the whole reading gave there."""
    values = [f"text {i} caf\u00e9\n" * (i % 3 + 1) for i in range(12)]
    (tmp_path / "a.txt").write_text("\ufeff" + "".join(values), encoding="utf-8")
    jsonl(tmp_path / "b.jsonl", [*({"text": v} for v in values), 3])
    parquet.write_table(arrow.table({"text": values}), tmp_path / "c.parquet", row_group_size=5)
    dataset(tmp_path / "d", list(values), shards=1)
    [shard] = (tmp_path / "d").glob("*.arrow")
    more = ["b.jsonl.gz", "b.jsonl.zst", "e.json", "f.csv", "g.tsv", "g.tsv.gz"]
    packed(tmp_path / "b.jsonl", "gz")
    packed(tmp_path / "b.jsonl", "zst")
    (tmp_path / "e.json").write_text(json.dumps([{"text": v} for v in values], indent=1))
    separated(tmp_path / "f.csv", [{"text": v} for v in values], ",")
    separated(tmp_path / "g.tsv", [{"n": "x", "text": v} for v in values], "\t")
    packed(tmp_path / "g.tsv", "gz")
    readers = [
        lambda start: read_text(tmp_path / "a.txt", start, size=30),
        *(
            partial(read, path, shape_of(path, "auto", None))
            for path in (tmp_path / name for name in ("b.jsonl", "c.parquet", shard, *more))
        ),
    ]
    for reader in readers:
        whole = list(reader(Place()))
        assert len(whole) >= 12
        for index, one in enumerate(whole):
            assert one.place is not None
            rest = [(r.place, getattr(r, "text", None)) for r in reader(one.place)]
            assert rest == [(r.place, getattr(r, "text", None)) for r in whole[index + 1 :]]


def test_pieces_join_to_the_text_and_end_with_lines(tmp_path: Path) -> None:
    text = "".join(f"line {i} \u00e9\n" for i in range(500)) + "x" * 300
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    parts = [one.text for one in read_text(tmp_path / "a.txt", Place(), size=100)]
    assert "".join(parts) == text and max(map(len, parts)) <= 100
    assert all(part.endswith("\n") for part in parts[:40])


def test_a_file_that_is_not_utf8_beyond_the_first_block(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\u00e9".encode() * 600_000 + b"\xe9 ")
    error = refused(tmp_path, "a.txt")
    assert error.code == "LS_TRAIN_TEXT" and "0xe9 at offset 1200000" in error.message


def test_a_long_document_is_the_same_from_a_file_and_from_a_line(tmp_path: Path) -> None:
    """Longer than a chunk: cut at the same lines, with the same hash. (bench/training/data.py runs
    documents of 50 MB and more.)"""
    text = "".join(f"line {i} of a long document\n" for i in range(50_000))
    (tmp_path / "a.txt").write_text(text)
    jsonl(tmp_path / "b.jsonl", [{"text": text}])
    parquet.write_table(arrow.table({"text": [text]}), tmp_path / "c.parquet")
    found = [load(tmp_path, name) for name in ("a.txt", "b.jsonl", "c.parquet")]
    assert texts(found[0]) == [text]
    assert len({corpus.documents[0].ids_N.tobytes() for corpus in found}) == 1
    assert len({int(corpus.entries[0].rows(0, 1)[0, 2]) for corpus in found}) == 1


def test_a_share_is_held_out_by_a_hash_of_the_text(tmp_path: Path) -> None:
    values = [f"document number {i}" for i in range(400)]
    jsonl(tmp_path / "a.jsonl", [{"text": v} for v in values])
    jsonl(tmp_path / "b.jsonl", [{"text": v} for v in reversed(values * 2)])
    corpus = load(tmp_path, "a.jsonl", fraction=0.1, limit=1000)
    held = {TOKENIZER.decode(d.ids_N.tolist()) for d in corpus.held_out}
    assert 20 <= len(held) <= 60 and held | set(texts(corpus)) == set(values)
    assert not held & set(texts(corpus)) and len(corpus.documents) == 400 - len(held)
    assert corpus.tokens == sum(len(d.ids_N) for d in corpus.documents)
    # Order, copies and files do not matter: a text is on one side, always the same.
    other = load(tmp_path, "b.jsonl", fraction=0.1, limit=1000)
    assert {TOKENIZER.decode(d.ids_N.tolist()) for d in other.held_out} == held
    assert not held & set(texts(other)) and len(other.documents) == 2 * len(corpus.documents)
    # A larger share holds the smaller one, and a limit takes the same ones wherever they lie.
    more = load(tmp_path, "a.jsonl", fraction=0.2, limit=1000)
    assert held < {TOKENIZER.decode(d.ids_N.tolist()) for d in more.held_out}
    few = [load(tmp_path, "a.jsonl", fraction=f, limit=5) for f in (0.1, 0.2)]
    assert [d.ids_N.tolist() for d in few[0].held_out] == [
        d.ids_N.tolist() for d in few[1].held_out
    ]
    assert corpus.documents.digest != more.documents.digest
    assert refused(tmp_path, "a.jsonl", fraction=1 - 1e-12).code == "LS_TRAIN_DATA"


def test_held_out_documents_that_are_trained_on_are_counted(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"text": f"number {i}"} for i in range(10)])
    jsonl(tmp_path / "b.jsonl", [{"text": f"number {i}"} for i in range(7, 20)])
    a, b = load(tmp_path, "a.jsonl"), load(tmp_path, "b.jsonl")
    assert data.shared(a, b) == 3
    assert len(data.scored(b, 5)) == 5 and len(data.scored(b, 64)) == 13


def test_rows_of_a_table_that_are_not_utf8_are_named_and_skipped_when_asked(tmp_path: Path) -> None:
    raw = arrow.array([b"good words", b"bad \xff words", b"more words"], arrow.binary())
    table = arrow.table({"text": raw.cast(arrow.string(), safe=False)})
    parquet.write_table(table, tmp_path / "a.parquet")
    error = refused(tmp_path, "a.parquet")
    assert error.code == "LS_TRAIN_BROKEN" and "line 2: not UTF-8 at byte 5" in error.message
    assert texts(load(tmp_path, "a.parquet", skip_broken=True)) == ["good words", "more words"]


def test_names_that_look_like_patterns_and_files_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("some words")
    (tmp_path / "a1.txt").write_text("other words")
    assert texts(load(tmp_path, "a[1].txt")) == ["some words"]
    assert texts(load(tmp_path, "a[0-9].txt")) == ["other words"]
    (tmp_path / "b.json").write_text('{"text": "one object"}\n')
    assert texts(load(tmp_path, "*", "!cache")) == ["other words", "some words", "one object"]


def test_a_dataset_whose_list_is_damaged(tmp_path: Path) -> None:
    dataset(tmp_path / "c", ["some words"], shards=1)
    for content in ("{", "[]"):
        (tmp_path / "c" / "state.json").write_text(content)
        error = refused(tmp_path, "c")
        assert error.code == "LS_TRAIN_DATA" and "state.json" in error.message


def test_a_share_that_holds_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some words")
    error = refused(tmp_path, "a.txt", fraction=1e-9)
    assert error.code == "LS_TRAIN_DATA" and "none of 1" in error.message
    assert error.field == "data.validation"


def test_tables_of_text_that_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('n,text\n1,"two\nlines"\n2\n\n3,fine\n4,"open\n')
    error = refused(tmp_path, "a.csv")
    assert error.code == "LS_TRAIN_BROKEN"
    assert "line 4: expected 2 values, as the first line has, got 1" in error.message
    assert "line 7: not readable" in error.message
    assert texts(load(tmp_path, "a.csv", skip_broken=True)) == ["two\nlines", "fine"]
    path.write_text("text,text\na,b\n")
    assert "each once" in refused(tmp_path, "a.csv").message
    path.write_text("")
    assert refused(tmp_path, "a.csv").code == "LS_TRAIN_DATA"
    path.write_bytes(b"text\nca\xe9\n")
    assert refused(tmp_path, "a.csv").code == "LS_TRAIN_TEXT"
    (tmp_path / "b.json").write_text('[{"text": "x y"},\n 3')
    assert "not JSON" in refused(tmp_path, "b.json").message
    (tmp_path / "c.json").write_text('[{"text": "x y"},\n 3]')
    assert "line 2: expected an object, got int" in refused(tmp_path, "c.json").message


def test_compressed_files_that_are_cut_short(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [{"text": f"number {i * i}"} for i in range(2000)])
    for ending in ("gz", "zst"):
        path = packed(tmp_path / "a.jsonl", ending)
        path.write_bytes(path.read_bytes()[:-20])
        error = refused(tmp_path, path.name)
        assert error.code == "LS_TRAIN_DATA" and path.name in error.message
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz")
    assert refused(tmp_path, "b.jsonl.gz").code == "LS_TRAIN_DATA"
    (tmp_path / "c.parquet.gz").write_bytes(b"")
    assert "by column" in (refused(tmp_path, "c.parquet.gz").fix or "")


def test_several_members_in_one_compressed_file(tmp_path: Path) -> None:
    """As pigz and pzstd write them, and `cat a.gz b.gz`."""
    for name, text in (("a.jsonl", "first one"), ("b.jsonl", "second one")):
        jsonl(tmp_path / name, [{"text": text}])
    for ending in ("gz", "zst"):
        parts = [packed(tmp_path / name, ending).read_bytes() for name in ("a.jsonl", "b.jsonl")]
        (tmp_path / f"c.jsonl.{ending}").write_bytes(b"".join(parts))
        assert texts(load(tmp_path, f"c.jsonl.{ending}")) == ["first one", "second one"]


def test_a_byte_order_mark_is_no_part_of_a_text_for_other_readers(tmp_path: Path) -> None:
    """`perplexity`, `eval` and `report` cut where a training cuts."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9 one")
    assert read_part(tmp_path / "a.txt", 0, 4) == ("caf\u00e9", False)
    assert read_part(tmp_path / "a.txt", 4, 9) == (" one", True)
    assert texts(load(tmp_path, "a.txt")) == ["caf\u00e9 one"]
