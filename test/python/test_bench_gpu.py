"""bench/gpu: the dry run of every part, what a cut-off run does, and the verdict's outcomes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lockstep.contract.spec import Spec

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "gpu"))
import documents
import pack
import specs
from verdict import report, verdict

GPU = Path(__file__).resolve().parents[2] / "bench" / "gpu"
CELLS = 6  # specs of parity.py


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(GPU / "run.sh"), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_dry_run_writes_every_part_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    done = start("--dry", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    parts = {row["part"]: row["rc"] for row in lines(tmp_path / "parts.jsonl")}
    assert parts == {"parity": 0, "llama": 0, "train": 0}, done.stdout
    parity = lines(tmp_path / "parity.jsonl")
    assert len(parity) == 2 * CELLS and not [row for row in parity if "error" in row]
    assert max(r["logits"] for r in parity if r["dtype"] == "float32") < 1e-4
    assert max(r["grads"] for r in parity if r["dtype"] == "float32") < 1e-4
    measured = json.loads((tmp_path / "llama.json").read_text())["rows"]
    assert [row["outcome"] for row in measured] == ["measured", "measured"]
    rows = lines(tmp_path / "train.jsonl")
    assert not [row for row in rows if {"error", "skipped", "partial"} & row.keys()]
    assert {row["arm"] for row in rows if row.get("done")} == {"untrained", *specs.ARMS}
    ways = {(row["arm"], row["way"]) for row in rows if "needles" in row}
    assert {("untrained", "window"), ("A4", "other"), ("full", "A0"), ("A0", "A0")} <= ways
    assert "A = 4 is undecided" in (tmp_path / "verdict.md").read_text()
    assert json.loads((tmp_path / "machine.json").read_text())["dry"] is True

    # The last arm is cut off: it alone runs again.
    kept = [row for row in rows if row.get("arm") != "A4K0"]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    assert start("--dry", "--out", str(tmp_path), "--parts", "train").returncode == 0
    again = lines(tmp_path / "train.jsonl")
    assert again[: len(kept)] == kept
    assert {row["arm"] for row in again[len(kept) :]} == {"A4K0"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without CUDA is what is tested")
def test_a_part_that_fails_stops_no_other(tmp_path: Path) -> None:
    done = start("--out", str(tmp_path), "--parts", "parity,train")
    assert done.returncode == 0, done.stderr
    parts = {row["part"]: row["rc"] for row in lines(tmp_path / "parts.jsonl")}
    assert parts == {"parity": 2, "train": 2}
    assert "expected a CUDA device, got none" in (tmp_path / "train.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "parity,lama"], "expected parts out of parity, llama, train, got lama"),
        (["--fast"], "got --fast"),
        (["--out"], "expected a value after --out"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = start("--out", str(tmp_path / "out"), *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "out").exists()


def made_up(
    ratio: float, *, arm: str = "A4", recall: tuple[int, int] = (20, 20), seeds: int = 4
) -> list[dict]:
    """Rows of full-trained and segment-trained models; recall: hits of 50, (full, segmented)."""
    out = []
    for seed in range(seeds):
        for name, factor, hits in (("full", 1.0, recall[0]), (arm, ratio, recall[1])):
            # A little noise, so that intervals have a width.
            ppl = {"16384": 20.0 * factor * (1 + 0.001 * (seed - 1.5) * (name == arm))}
            hits += seed % 2 if name == arm and recall[0] != recall[1] else 0
            cells = {"16384": {"single": [1] * hits + [0] * (50 - hits)}}
            out.append({"seed": seed, "arm": name, "way": arm, "perplexity": ppl})
            out.append({"seed": seed, "arm": name, "way": arm, "needles": cells})
    return out


@pytest.mark.parametrize(
    ("rows", "beyond"),
    [
        (made_up(0.95), "adds"),
        (made_up(1.0, recall=(20, 26)), "adds"),
        (made_up(1.0), "nothing"),
        (made_up(1.0, recall=(20, 21)), "nothing"),
        (made_up(0.9795), "undecided"),  # its interval reaches over 0.98
        (made_up(1.05), "undecided"),
        (made_up(1.0, recall=(26, 20)), "undecided"),  # recall lost
        (made_up(0.9, seeds=1), "undecided"),  # no interval
        ([], "undecided"),
    ],
)
def test_what_training_adds(rows: list[dict], beyond: str) -> None:
    assert verdict(rows, 16_384)["beyond"] == beyond


@pytest.mark.parametrize(("ratio", "rescue"), [(0.7, True), (0.81, False)])
def test_the_rescue_without_sinks(ratio: float, rescue: bool) -> None:
    rows = made_up(ratio, arm="A0", seeds=2)
    result = verdict(rows, 16_384)
    assert result["rescue"] is rescue and result["beyond"] == "undecided"
    text = report(rows, result)
    assert ("is reproduced" in text) is rescue and "| A0, A0 | 16384 |" in text
    assert verdict(made_up(0.7), 16_384)["rescue"] is None


def test_cells_of_which_one_side_is_cut_short_are_left_out() -> None:
    rows = made_up(1.0, recall=(20, 30))
    for row in rows:
        if row["arm"] == "full" and "needles" in row:
            row["needles"]["16384"]["single"] = [1] * 10
    assert verdict(rows, 16_384)["recall"]["n"] == 0


def test_templates_and_words_of_training_are_apart_from_those_of_evaluation() -> None:
    words = json.loads((GPU / "templates.json").read_text())
    for part in ("adjectives", "nouns"):
        assert not set(words["train"][part]) & set(words["evaluation"][part])
    lines = [{t["needle"] for t in words[kind]["templates"]} for kind in words]
    assert not lines[0] & lines[1]


@pytest.mark.parametrize("keys", [1, 4])
def test_a_needle_stands_in_the_text_and_its_answer_at_the_end(keys: int) -> None:
    encode = lambda text: list(text.encode())  # noqa: E731
    one = documents.needle(random.Random(3), encode, [120] * 5000, 2000, keys, "evaluation")
    assert len(one.ids) == 2000 and one.digits.stop == 2000
    text = bytes(one.ids).decode()
    number = text[one.digits.start :]
    assert text[: one.question_end].count(number) == 1
    assert text[: one.question_end].endswith("?")
    stood = sum(c.isdigit() for c in text[: one.question_end])
    assert stood == 7 * keys


def test_the_tokens_are_a_function_of_the_seed_and_a_tenth_recalls() -> None:
    encode = lambda text: list(text.encode())  # noqa: E731
    how = {"steps": 5, "batch": 8, "length": 1024, "segment": 64}
    text = [120] * 9000
    first, again, other = (documents.training(s, encode, text, **how) for s in (0, 0, 1))
    assert first == again != other
    flat = [doc for batch in first for doc in batch]
    recall = [doc for doc in flat if len(set(doc.ids)) > 1]
    assert len(recall) == len(flat) // 10
    assert all(len(doc.ids) == 1024 and max(doc.boundaries) < 1024 for doc in flat)


def test_a_run_that_is_cut_off_has_pairs_of_the_first_seed_first() -> None:
    arms = specs.order(4)
    assert arms[:4] == [(0, "full"), (0, "A4"), (0, "A0"), (0, "A4K0")]
    assert len(arms) == 12 and arms[-2:] == [(3, "full"), (3, "A4")]


def test_the_window_holds_as_many_rows_as_the_segmented_model() -> None:
    layers, kv_heads, length = 30, 3, 32_768
    of = specs.spec(layers, specs.Sizes(), 4)
    window = specs.window(of, layers, kv_heads, length)
    long = sum(map(len, of.long_heads))
    assert long == 24 and (of.max, of.carry, of.retrieval_size) == (512, 64, 128)
    rows = kv_heads * layers * (4 + 64 + 512) + long * (128 + length - 4)
    held = kv_heads * layers * (4 + window.carry + 512)
    assert rows - kv_heads * layers < held <= rows


def test_the_parts_of_a_contract_make_the_same_spec() -> None:
    of = specs.spec(30, specs.Sizes(), 0)
    assert Spec.from_contract(specs.document(of)) == of


def test_pieces_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wheel"
    file.write_bytes(os.urandom((1 << 20) + 5))
    pack.split(file, tmp_path / "parts", 1)
    pack.join(tmp_path / "parts", tmp_path / "joined")
    assert (tmp_path / "joined").read_bytes() == file.read_bytes()
    (tmp_path / "parts" / "wheel.part-01").write_bytes(b"other")
    with pytest.raises(SystemExit, match="expected SHA-256"):
        pack.join(tmp_path / "parts", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    (tmp_path / "parts" / "wheel.part-01").unlink()
    with pytest.raises(SystemExit, match=r"none named wheel\.part-01"):
        pack.join(tmp_path / "parts", tmp_path / "joined")
