"""Which sequences are drawn, in which order, where they are cut, by whom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from lockstep.contract.planner import plan
from lockstep.errors import LockstepError
from lockstep.training.data import Cursor, Documents, Sequences
from lockstep.training.data import sequences as module
from lockstep.training.data.order import scatter, shuffled
from lockstep.training.data.store import Tokens

ROOT = Path(__file__).resolve().parents[2]
Made = Callable[..., Documents]
SCATTERED = [1220577324908258172, 3803960897601822090, 10745531580920325751]
SHUFFLED = [3, 0, 5, 1, 2, 6, 8, 9, 7, 4]
BUNDLE = """
import { bundlePolicy } from './dist/contract/bundle.js';
import { delimiters } from './dist/policies/index.js';
const { source } = await bundlePolicy(delimiters({ tokens: [1] }));
process.stdout.write(source);
"""


@pytest.fixture(scope="module")
def contract() -> Any:
    """What a planner needs of a contract: cuts after tokens 0, 10, 20, ..., segments up to 16."""
    command = ["node", "--input-type=module", "-e", BUNDLE]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    document = {
        "policy": {"name": "delimiters"},
        "tables": {"tokens": list(range(0, 1000, 10)), "strings": None},
        "segment": {"min": 2, "max": 16, "align": 1},
        "tokenizer": {"size": 2000},
    }
    return SimpleNamespace(document=document, policy_source=made.stdout)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Documents 0..n-1 of the lengths asked for, two files of them."""

    def make(*lengths: int) -> Documents:
        index, files = [], []
        for file, part in enumerate((lengths[:1], lengths[1:])):
            path, start = tmp_path / f"{file}.bin", 0
            np.concatenate([np.arange(n, dtype="<u2") for n in part] or [[]]).tofile(path)
            files.append((str(path), "<u2"))
            for n in part:
                index.append([file, start, n])
                start += n
        names = [Path(path).name for path, _ in files]
        return Documents(names, Tokens(files), np.array(index, dtype=np.int64), "digest")

    return make


def draw(documents: Documents, contract: Any, cursor: Cursor, count: int, **o: Any) -> list[Any]:
    options = {"length": 16, "seed": 1, "bos": None} | o
    sequences = Sequences(documents, contract=contract, **options)
    try:
        return sequences.take(cursor, count)
    finally:
        sequences.close()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 1000])
def test_a_shuffle_is_a_permutation_of_its_own_for_every_key(count: int) -> None:
    orders = [[shuffled(i, count, bytes([k] * 8)) for i in range(count)] for k in range(3)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert count < 64 or (orders[0] != orders[1] != orders[2] != sorted(orders[0]))


def test_a_shuffle_of_billions_costs_no_memory() -> None:
    drawn = {shuffled(i, 5_000_000_000, b"12345678") for i in range(1000)}
    assert len(drawn) == 1000 and max(drawn) > 4_000_000_000 > 1_000_000_000 > min(drawn)


def test_scattered_numbers_are_what_they_were() -> None:
    """The order of every training hangs on these: they must not change with a version of numpy."""
    assert scatter(np.arange(3), b"lockstep").tolist() == SCATTERED
    assert [shuffled(i, 10, b"lockstep") for i in range(10)] == SHUFFLED


@pytest.mark.parametrize("bos", [None, 7])
@pytest.mark.parametrize("length", [2, 3, 64])
def test_an_epoch_sees_every_token_once_and_never_mixes_documents(
    length: int, bos: int | None, made: Made, contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 2)  # documents of several blocks
    documents = made(2, 63, 64, 65, 1000)
    drawn = Sequences(documents, length, 3, bos, contract)
    for epoch in range(3):
        seen = [np.zeros(len(d.ids_N), dtype=int) for d in documents]
        for index in range(drawn.count(epoch)):
            document, start, end = drawn.at(epoch, index)
            assert 0 < end - start <= length - (bos is not None)
            seen[document][start:end] += 1
        for counts in seen:
            # Only a last window of a single token, which holds no target, may fall out.
            assert counts.max() == 1 and (counts == 0).sum() <= (bos is None)


def test_windows_begin_elsewhere_in_every_epoch(made: Made, contract: Any) -> None:
    drawn = Sequences(made(1000), 64, 3, None, contract)
    starts = [{drawn.at(e, i)[1] for i in range(drawn.count(e))} - {0} for e in range(4)]
    assert not starts[0] & starts[1] or not starts[0] & starts[2]


def test_sequences_are_a_function_of_the_seed_and_the_cursor(made: Made, contract: Any) -> None:
    documents = made(100, 300)
    whole = draw(documents, contract, Cursor(), 80, bos=5)
    cursor = Cursor()
    parts = [draw(documents, contract, cursor, n, bos=5) for n in (37, 43)]
    assert parts[0] + parts[1] == whole
    assert cursor.epoch == 2 and cursor.data == "digest"
    assert draw(documents, contract, Cursor(), 80, bos=5, seed=2) != whole
    assert all(one.ids[0] == 5 and 2 <= len(one.ids) <= 16 for one in whole)


def test_a_cursor_of_another_corpus_is_refused(made: Made, contract: Any) -> None:
    with pytest.raises(LockstepError, match="other texts") as caught:
        draw(made(100), contract, Cursor(0, 3, "another"), 1)
    assert caught.value.code == "LS_TRAIN_RESUME"


def test_ranks_share_what_one_process_takes(made: Made, contract: Any) -> None:
    sequences = Sequences(made(100, 300), 40, 1, None, contract)
    cursor = Cursor()
    whole = [sequences.take(cursor, 5) for _ in range(4)]
    for world in (2, 3, 7):
        cursors = [Cursor() for _ in range(world)]
        for step in whole:
            parts = [sequences.take(cursors[rank], 5, rank, world) for rank in range(world)]
            assert [parts[i % world][i // world] for i in range(5)] == step
            assert sum(map(len, parts)) == 5
        assert all(c == cursor for c in cursors)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_what_is_drawn_carries_its_boundaries(made: Made, contract: Any, workers: int) -> None:
    sequences = Sequences(made(200, 70, 800), 64, 1, 3, contract, workers)
    cursor = Cursor()
    drawn = [one for _ in range(6) for one in sequences.take(cursor, 3)]
    assert [one.boundaries for one in drawn] == [plan(contract, one.ids) for one in drawn]
    assert max(len(one.boundaries) for one in drawn) >= 4
    # A cursor moved by hand, as on resumption: what was cut ahead is of no use.
    assert sequences.take(Cursor(), 3) == drawn[:3]
    # More than wait at once.
    assert sequences.take(Cursor(), 300)[:18] == drawn
    sequences.close()
    sequences.close()


def test_a_worker_that_is_killed_changes_nothing(made: Made, contract: Any) -> None:
    warnings: list[str] = []
    documents = made(200, 800)
    sequences = Sequences(documents, 64, 1, None, contract, 2, warnings.append)
    cursor = Cursor()
    first = sequences.take(cursor, 4)
    os.kill(sequences._prefetcher._workers[1].pid, signal.SIGKILL)
    drawn = [*first, *(one for _ in range(5) for one in sequences.take(cursor, 4))]
    assert drawn == draw(documents, contract, Cursor(), 24, length=64)
    [warning] = warnings
    assert "exit code -9" in warning or "Broken pipe" in warning
    sequences.close()


def test_a_policys_error_comes_out_of_a_worker_whole(made: Made, contract: Any) -> None:
    small = {**contract.document, "tokenizer": {"size": 100}}
    source = SimpleNamespace(document=small, policy_source=contract.policy_source)
    with pytest.raises(LockstepError, match=r"delimiters at token .* from 0 to 99") as caught:
        draw(made(500), source, Cursor(), 30, workers=1)
    assert caught.value.code == "LS_PLAN_TOKEN" and caught.value.fix


def ended(process: psutil.Process) -> bool:
    """Gone, or dead and not yet buried: in a container nobody may bury orphans."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


TRAINER = """
import json, sys, time
from types import SimpleNamespace
import numpy as np
from lockstep.training.data import Cursor, Documents, Sequences
from lockstep.training.data.store import Tokens
work = json.loads(sys.stdin.readline())
tokens = Tokens([tuple(file) for file in work["files"]])
documents = Documents(["d"], tokens, np.array(work["index"]), "digest")
contract = SimpleNamespace(document=work["document"], policy_source=work["policy"])
sequences = Sequences(documents, 64, 1, None, contract, 2)
sequences.take(Cursor(), 4)
print(*(worker.pid for worker in sequences._prefetcher._workers), flush=True)
time.sleep(600)
"""


def test_workers_end_with_a_trainer_that_is_killed(made: Made, contract: Any) -> None:
    documents = made(500)
    work = {
        "files": documents.tokens.files,
        "index": documents.index_N3.tolist(),
        "document": contract.document,
        "policy": contract.policy_source,
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python")}
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as trainer:
        assert trainer.stdin is not None and trainer.stdout is not None
        trainer.stdin.write(json.dumps(work) + "\n")
        trainer.stdin.flush()
        workers = [psutil.Process(int(word)) for word in trainer.stdout.readline().split()]
        assert len(workers) == 2
        trainer.kill()
        while not all(map(ended, workers)):
            time.sleep(0.05)  # a worker that stays hangs this test
