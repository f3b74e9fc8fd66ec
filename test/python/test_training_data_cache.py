"""The cache of token ids: made once, survives kills, shared by processes, not believed blindly."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
import pytest
from lockstep.bridge.job import Cancelled
from lockstep.errors import LockstepError
from lockstep.training import data
from lockstep.training.data import build, store
from lockstep.training.data import cache as module
from lockstep.training.data import rows as module_rows
from lockstep.training.data.fingerprint import sha256
from lockstep.training.data.readers import read_text

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = make_tiny.tokenizer()
SIZE = TOKENIZER.get_vocab_size()


def load(root: Path, *patterns: str, **options: Any) -> data.Corpus:
    reading = data.ReadOptions(root / "cache", **options)
    return data.load(patterns or ("*.jsonl",), root, TOKENIZER, SIZE, reading)


def rows(path: Path, count: int, word: str = "number") -> None:
    lines = (json.dumps({"text": f"{word} {i} " * (i % 7)}) for i in range(count))
    path.write_text("\n".join(lines) + "\n")


def files(corpus: data.Corpus) -> list[bytes]:
    """Bytes of tokens, documents and counts of every entry."""
    names = ("tokens.bin", "documents.bin", "meta.json")
    return [(entry.folder / name).read_bytes() for entry in corpus.entries for name in names]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are tokenized from now on."""
    seen: list[str] = []
    run = build.Build.run

    def spy(self: build.Build, path: Path, *rest: Any) -> None:
        seen.append(path.name)
        run(self, path, *rest)

    monkeypatch.setattr(build.Build, "run", spy)
    return seen


def test_a_file_is_tokenized_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reads(monkeypatch)
    rows(tmp_path / "a.jsonl", 50)
    first = load(tmp_path)
    again = load(tmp_path)
    assert seen == ["a.jsonl"] and again.documents.digest == first.documents.digest
    # By content: a copy under another name, a touched file, a file that came and went.
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    os.utime(tmp_path / "a.jsonl")
    assert len(load(tmp_path).documents) == 2 * len(first.documents)
    assert seen == ["a.jsonl"]
    rows(tmp_path / "a.jsonl", 51)
    load(tmp_path, "a.jsonl")
    assert seen == ["a.jsonl", "a.jsonl"]


def test_another_tokenizer_has_entries_of_its_own(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", 5)
    other = make_tiny.tokenizer()
    other.add_tokens(["number"])
    reading = data.ReadOptions(tmp_path / "cache")
    a = data.load(("a.jsonl",), tmp_path, TOKENIZER, SIZE, reading)
    b = data.load(("a.jsonl",), tmp_path, other, SIZE + 1, reading)
    assert a.documents.digest != b.documents.digest and a.tokens > b.tokens


def test_large_ids_take_four_bytes(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", 5)
    other = make_tiny.tokenizer()
    other.add_tokens([f"<{i}>" for i in range(70_000)])
    (tmp_path / "a.txt").write_text("<69999> <3> words")
    corpus = data.load(("a.txt",), tmp_path, other, 80_000, data.ReadOptions(tmp_path / "cache"))
    [document] = corpus.documents
    assert document.ids_N.dtype == np.uint32
    assert document.ids_N.tolist() == other.encode("<69999> <3> words").ids


def test_many_files_need_few_memory_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "OPEN", 3)
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text(f"text number {i}")
    corpus = load(tmp_path, "*.txt")
    for i in (*range(20), *range(19, -1, -1)):
        text = TOKENIZER.decode(corpus.documents.ids(i, 0, 99))
        assert text == f"text number {i}" and len(corpus.documents.tokens._maps) <= 3
    assert corpus.documents[-1].path.endswith("19.txt")


def test_what_a_cache_says_is_checked(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", 50)
    good = load(tmp_path)
    whole = files(good)
    said: list[dict[str, Any]] = []
    for name, content in (
        ("tokens.bin", whole[0][:-2]),
        ("documents.bin", whole[1] + b"x"),
        ("meta.json", b"{"),
        ("meta.json", None),
    ):
        path = good.entries[0].folder / name
        path.unlink() if content is None else path.write_bytes(content)
        corpus = load(tmp_path, emit=lambda event, **rest: said.append({"event": event, **rest}))
        assert files(corpus) == whole
    assert [one["code"] for one in said if one["event"] == "warning"] == ["LS_TRAIN_CACHE"] * 4


def test_a_stopped_reading_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_rows, "read_text", partial(read_text, size=2000))
    rows(tmp_path / "a.jsonl", 300)
    (tmp_path / "b.txt").write_text("a line of text \u00e9\n" * 3000)
    whole = files(load(tmp_path, "a.jsonl", "b.txt"))
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(build, "BATCH", 4000)
    places: list[tuple[str, int]] = []
    run = build.Build.run

    def spy(self: build.Build, path: Path, *rest: Any) -> None:
        places.append((path.name, self.place.at))
        run(self, path, *rest)

    monkeypatch.setattr(build.Build, "run", spy)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls % 4 == 0

    while True:
        try:
            corpus = load(tmp_path, "a.jsonl", "b.txt", cancelled=stop)
            break
        except Cancelled:
            continue
    assert files(corpus) == whole
    for name in ("a.jsonl", "b.txt"):
        at = [place for file, place in places if file == name]
        assert at == sorted(set(at)) and len(at) >= 2, name


KILLED = """
import json, os, signal, sys
from pathlib import Path
from tokenizers import Tokenizer
from lockstep.training import data
from lockstep.training.data import build
build.BATCH, build.COMMIT = 1000, 1500
count, root = int(sys.argv[1]), Path(sys.argv[2])
def counted(function):
    def call(*arguments, **options):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for name in ("fsync", "replace", "rename"):
    setattr(os, name, counted(getattr(os, name)))
tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
corpus = data.load(("a.jsonl",), root, tokenizer, 264, data.ReadOptions(root / "cache"))
print(count)
"""


def killed(root: Path, at: int) -> int | None:
    """Tokenize in a process that is killed before its ``at``-th call that makes data last; the
    number of calls it made, where it lived."""
    command = [sys.executable, "-c", KILLED, str(at), str(root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return at - int(done.stdout)


def test_killed_at_any_moment_it_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", 120)
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    calls = killed(tmp_path, 10**9)
    assert calls is not None and calls > 12
    whole = files(load(tmp_path))
    step = 1 if os.environ.get("LOCKSTEP_EVERY_KILL") else 5
    for at in range(1, calls + 1, step):
        shutil.rmtree(tmp_path / "cache")
        assert killed(tmp_path, at) is None
        assert files(load(tmp_path)) == whole, at
    # Killed again and again: every process gets a little further.
    shutil.rmtree(tmp_path / "cache")
    for _ in range(20):
        if killed(tmp_path, 11) is not None:
            break
    else:
        raise AssertionError("no progress")
    assert files(load(tmp_path)) == whole


def test_processes_at_once_make_one_entry(tmp_path: Path) -> None:
    for name in "abc":
        rows(tmp_path / f"{name}.jsonl", 100, name)
    shutil.copy(tmp_path / "a.jsonl", tmp_path / "d.jsonl")
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    script = KILLED.replace('("a.jsonl",)', '("*.jsonl",)')
    command = [sys.executable, "-c", script, str(10**9), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    started = [subprocess.Popen(command, env=environment, stdout=-1) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    for process in started:
        assert process.stdout is not None
        process.stdout.close()
    made = files(load(tmp_path))
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert {name for name in left if "." in name} == set()  # neither locks nor parts
    shutil.rmtree(tmp_path / "cache")
    assert files(load(tmp_path)) == made
    assert len(list((tmp_path / "cache").glob("*/meta.json"))) == 3


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(tmp_path / "a.jsonl", 50)
    run = build.Build.run

    def change(self: build.Build, path: Path, *rest: Any) -> None:
        run(self, path, *rest)
        rows(path, 60)

    with monkeypatch.context() as patch, pytest.raises(LockstepError, match="got a change"):
        patch.setattr(build.Build, "run", change)
        load(tmp_path)
    assert len(load(tmp_path).documents) == len(load(tmp_path).documents) > 42


def test_a_sum_is_remembered_only_for_a_file_that_lies_still(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    sha256(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()  # written just now: it may change unnoticed
    sums = {}
    for text in ("one", "two"):
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        sums[text] = sha256(path, tmp_path / "cache")
    assert sums["one"] != sums["two"]


def test_a_full_disk_is_named_and_what_was_done_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH", 1000)
    monkeypatch.setattr(build, "COMMIT", 1000)
    rows(tmp_path / "a.jsonl", 400)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(LockstepError) as caught:
            load(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.code == "LS_TRAIN_DISK" and caught.value.field == "data.cache"
    [progress] = (tmp_path / "cache").glob("*.part/progress.json")
    assert json.loads(progress.read_text())["place"]["line"] > 0
    made = files(load(tmp_path))
    shutil.rmtree(tmp_path / "cache")
    assert files(load(tmp_path)) == made


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    rows(tmp_path / "a.jsonl", 5)
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(LockstepError) as caught:
        load(tmp_path)
    assert caught.value.code == "LS_TRAIN_CACHE" and str(tmp_path / "cache") in caught.value.message


def test_progress_is_told_while_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "BATCH", 1000)
    monkeypatch.setattr(module, "EVERY", -1.0)
    rows(tmp_path / "a.jsonl", 100)
    events: list[dict[str, Any]] = []
    corpus = load(tmp_path, emit=lambda event, **rest: events.append({"event": event, **rest}))
    tokenizing = [one for one in events if one["stage"] == "tokenizing"]
    size = (tmp_path / "a.jsonl").stat().st_size
    assert events[0]["stage"] == "reading" and len(tokenizing) > 3
    assert [one["done"] for one in tokenizing] == sorted({one["done"] for one in tokenizing})
    last = tokenizing[-1]
    assert (last["done"], last["total"], last["tokens"]) == (size, size, corpus.tokens)
    assert last["documents"] == len(corpus.documents)
