"""LongBench on a copy that the user has: measures by hand, prompts cut in the middle, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import make_tiny
import pytest
from lockstep.errors import LockstepError
from lockstep.evaluation import score as scores
from lockstep.evaluation.longbench import make
from lockstep.evaluation.longbench.metrics import MEASURES, score
from tokenizers import Tokenizer


@pytest.mark.parametrize(
    ("task", "prediction", "answers", "classes", "expected"),
    [
        ("qasper", "The cat, a dog!", ["cat dog", "x"], [], 100.0),
        ("qasper", "one two three", ["three four"], [], 40.0),
        ("triviaqa", "\nParis\nQuestion: next", ["paris"], [], 100.0),
        ("qmsum", "a b c d", ["a x c d e"], [], 100 * 6 / 9),
        ("trec", "Location and more\nNumber", ["Location"], ["Location", "Number"], 100.0),
        ("trec", "Other location", ["Other location"], ["Other location", "location"], 100.0),
        ("trec", "Location, Number", ["Location"], ["Location", "Number"], 50.0),
        ("trec", "neither", ["Location"], ["Location", "Number"], 0.0),
        ("passage_count", "There are 7, or 8", ["7"], [], 50.0),
        ("passage_retrieval_en", "Paragraph 12", ["Paragraph 12"], [], 100.0),
        ("passage_retrieval_en", "none", ["Paragraph 12"], [], 0.0),
        ("lcc", "\n```\n# note\nreturn 1\nmore", ["return 1"], [], 100.0),
        ("lcc", "abcd", ["abxy"], [], 50.0),
    ],
)
def test_measures(
    task: str, prediction: str, answers: list[str], classes: list[str], expected: float
) -> None:
    assert score(task, prediction, answers, classes) == pytest.approx(expected)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shape of a copy: two tasks, two records each, and the two tables."""
    data = tmp_path / "longbench"
    (data / "config").mkdir(parents=True)
    prompts = {"qasper": "Read:\n{context}\nAsked: {input}", "lcc": "{context}{input}"}
    (data / "config" / make.PROMPTS).write_text(json.dumps(prompts))
    (data / "config" / make.BUDGETS).write_text(json.dumps({"qasper": 16, "lcc": 8}))
    for name in ("qasper.jsonl", "lcc_e.jsonl"):
        records = [
            {
                "input": f"q{n}",
                "context": "w " * 300 * n,
                "answers": [f"a {n}"],
                "all_classes": None,
            }
            for n in (1, 2)
        ]
        (data / name).write_text("\n".join(json.dumps(one) for one in records) + "\n")
    make_tiny.write(tmp_path / "model")
    return data


def asked(copy: Path, **changes: object) -> dict:
    folder = copy.parent
    found = {"folder": str(folder), "dir": str(folder / "model"), "data": str(copy), "tasks": None}
    return {**found, "lengths": [400], "samples": 9, "bos": 0, "wrap": ["<u>", "</u>"], **changes}


def test_prompts_keep_their_ends_and_their_budget(copy: Path) -> None:
    assert make.run(asked(copy)) == {"tasks": ["qasper", "lcc"], "samples": 4}
    tokenizer = Tokenizer.from_file(str(copy.parent / "model" / "tokenizer.json"))
    lines = [json.loads(x) for x in (copy.parent / scores.SAMPLES).read_text().split("\n") if x]
    for one in lines:
        tokens = 1 + len(tokenizer.encode(one["prompt"], add_special_tokens=False).ids)
        assert 395 <= tokens + one["maxTokens"] <= 400
        assert one["prompt"].endswith(f"q{one['index'] + 1}" + "</u>" * (one["task"] == "qasper"))
    assert lines[0]["prompt"].startswith("<u>Read:\nw w ")
    assert lines[2]["prompt"].startswith("w w ")
    answers = [{**one, "text": " ".join(one["answers"])} for one in lines]
    for name, texts in (("perfect", answers), ("empty", [{**one, "text": ""} for one in answers])):
        (copy.parent / f"{name}.jsonl").write_text("".join(json.dumps(t) + "\n" for t in texts))
    rows = scores.run(
        {
            "folder": str(copy.parent),
            "suite": "longbench",
            "rows": ["perfect", "empty"],
            "pairs": [],
        }
    )["rows"]
    assert [one["score"] for one in rows["perfect"]["scores"]] == [100.0, 100.0]
    assert [one["score"] for one in rows["empty"]["scores"]] == [0.0, 0.0]


def test_short_prompts_stay_whole(copy: Path) -> None:
    assert make.PLAIN.issubset(MEASURES)
    make.run(asked(copy, tasks=["qasper"], lengths=[4096], samples=1, wrap=["", ""]))
    (line,) = (copy.parent / scores.SAMPLES).read_text().strip().split("\n")
    assert json.loads(line)["prompt"] == f"Read:\n{'w ' * 300}\nAsked: q1"


def test_what_is_missing_is_named(copy: Path, tmp_path: Path) -> None:
    for change, pattern in (
        ({"tasks": ["trec"]}, r"trec\.jsonl"),
        ({"data": str(tmp_path)}, "dataset2prompt"),
        ({"lengths": [20]}, "room for an answer of qasper"),
        ({"tasks": ["qasper", "dureader"]}, "tasks of narrativeqa.*got 'dureader'"),
    ):
        with pytest.raises(LockstepError, match=pattern):
            make.run(asked(copy, **change))
    (copy / "qasper.jsonl").write_text('{"input": 1}\n')
    with pytest.raises(LockstepError, match=r"qasper\.jsonl .* in line 1") as caught:
        make.run(asked(copy))
    assert caught.value.code == "LS_EVAL_DATA"
    assert len(MEASURES) == 16
    (copy / "qasper.jsonl").write_text("")
    with pytest.raises(LockstepError, match="a line for each sample, got none"):
        make.run(asked(copy))
    (copy / "hotpotqa.jsonl").write_text('{"answers": []}\n')
    with pytest.raises(LockstepError, match=r"expected hotpotqa in dataset2prompt\.json"):
        make.run(asked(copy))
    for broken in ("{", "[]"):
        (copy / "config" / make.BUDGETS).write_text(broken)
        with pytest.raises(LockstepError, match=r"dataset2maxlen\.json an object, got"):
            make.run(asked(copy))


def test_what_is_cut_in_characters_keeps_its_budget(copy: Path) -> None:
    tokenizer = Tokenizer.from_file(str(copy.parent / "model" / "tokenizer.json"))
    text = "«Où\u202fça\u202f?» — ÉÈÊ œuvre naïve, 東京 の 街 🙂 " * 9
    whole = len(tokenizer.encode(text, add_special_tokens=False).ids)
    for budget in range(20, whole):
        cut = make.cut_middle(tokenizer, text, budget)
        assert len(tokenizer.encode(cut, add_special_tokens=False).ids) <= budget
        assert len(cut) > 0
