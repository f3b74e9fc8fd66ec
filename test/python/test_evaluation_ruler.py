"""RULER's generator against the recipe: counts, lengths, places, answers; and the scoring."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import make_tiny
import pytest
from lockstep.errors import LockstepError
from lockstep.evaluation import score
from lockstep.evaluation.ruler import make, sizing, tasks, words
from lockstep.evaluation.ruler.samples import DEPTHS, Sample, Setting, sample
from lockstep.evaluation.ruler.scoring import cleaned, string_match_all, string_match_part
from lockstep.evaluation.ruler.tasks import TASKS
from tokenizers import Tokenizer

LICENSE = Path(__file__).parents[2] / "LICENSE"
ESSAY = tuple(LICENSE.read_text(encoding="utf-8").split())
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
KINDS = {"numbers": r"\d{7}", "uuids": UUID, "words": r"[\w' ]+(?:-[\w' ]+)+"}


def count(text: str) -> int:
    """Words and marks: about as many as a tokenizer of a large vocabulary would give."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def setting(length: int, **changes: object) -> Setting:
    return replace(Setting(length, ESSAY), **changes)


def needles(made: Sample, kind: str, key: str) -> list[tuple[str, str]]:
    pattern = tasks.NEEDLE.format(kind=kind, key=f"({KINDS[key]})", value=f"({KINDS[kind]})")
    return re.findall(pattern, made.prompt)


# task: haystack, keys, values a key, queries, kind of key, kind of value (scripts/synthetic.yaml)
NIAH = {
    "niah_single_1": ("noise", 1, 1, 1, "words", "numbers"),
    "niah_single_2": ("essay", 1, 1, 1, "words", "numbers"),
    "niah_single_3": ("essay", 1, 1, 1, "words", "uuids"),
    "niah_multikey_1": ("essay", 4, 1, 1, "words", "numbers"),
    "niah_multikey_2": ("needle", 1, 1, 1, "words", "numbers"),
    "niah_multikey_3": ("needle", 1, 1, 1, "uuids", "uuids"),
    "niah_multivalue": ("essay", 1, 4, 1, "words", "numbers"),
    "niah_multiquery": ("essay", 4, 1, 4, "words", "numbers"),
}


@pytest.mark.parametrize("name", NIAH)
@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_needles_are_as_many_as_the_recipe_says(name: str, seed: str) -> None:
    haystack, keys, values, queries, key_kind, value_kind = NIAH[name]
    made = sample(TASKS[name], 600, setting(4096), seed)
    found = needles(made, value_kind, key_kind)
    hay = 600 if haystack == "needle" else 0
    assert len(found) == keys * values + hay
    if haystack == "noise":
        assert made.prompt.count(tasks.NOISE) == 600
    assert len(made.answers) == values * queries
    asked = [key for key in dict(found) if key in made.prompt.rsplit("\n", 1)[1]]
    if haystack != "needle":
        assert len(asked) == queries
        assert sorted(value for key, value in found if key in asked) == sorted(made.answers)
    for answer in made.answers:
        assert re.fullmatch(KINDS[value_kind], answer)
        assert made.prompt.count(answer) == 1 and answer not in made.prefix
    # One value is asked for in the singular, as the recipe does.
    plural = queries * values > 1
    assert made.prefix.endswith(" are" if plural else " is")
    assert (f"secret {value_kind} of" in made.prefix) == plural
    assert made == sample(TASKS[name], 600, setting(4096), seed)


def test_needles_stand_at_all_depths_of_an_essay() -> None:
    assert len(set(DEPTHS)) == 40 and (DEPTHS[0], DEPTHS[-1]) == (0, 100)
    depths = []
    for seed in range(60):
        made = sample(TASKS["niah_single_2"], 2000, setting(4096), str(seed))
        depths.append(made.prompt.index(made.answers[0]) / len(made.prompt))
    assert min(depths) < 0.1 and max(depths) > 0.9
    for a in (0, 0.25, 0.5, 0.75):
        assert sum(a <= depth < a + 0.25 for depth in depths) > 5


def test_the_essay_keeps_its_words_and_repeats() -> None:
    size = len(ESSAY) + 700
    made = sample(TASKS["niah_single_2"], size, setting(4096), "0")
    (found,) = needles(made, "numbers", "words")
    needle = tasks.NEEDLE.format(kind="numbers", key=found[0], value=found[1])
    context = made.prompt.split("\n")[1].replace(needle, "")
    assert context.split() == [*ESSAY, *ESSAY[:700]]


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_variables_are_tracked_over_four_hops(seed: str) -> None:
    made = sample(TASKS["vt"], 40, setting(4096, example=12), seed)
    example, question = made.prompt.split("\n\n", 2)[1:]
    lines = question.split("\n")[:-1]
    chain = [line for line in lines if line.startswith("VAR ")]
    assert (lines.count(tasks.NOISE), len(chain), len(made.answers)) == (40, 5, 5)
    first = re.fullmatch(r"VAR ([A-Z]{5}) = (\d{5})", chain[0])
    assert first and first[1] == made.answers[0]
    for before, name, line in zip(made.answers, made.answers[1:], chain[1:], strict=False):
        assert line == f"VAR {name} = VAR {before}"
    assert f"value {first[2]} " in question and f" 5 variables hold the value {first[2]}" in (
        made.prefix
    )
    # The solved example: names of three letters, and its answer.
    assert example.count(tasks.NOISE) == 12
    assert len(re.findall(r"^VAR [A-Z]{3} = ", example, re.M)) == 5
    assert not any(answer in example for answer in made.answers)


def listed(text: str) -> Counter[str]:
    """Words of `1. word 2. word`, by how often they stand there; the numbers must count up."""
    parts = re.findall(r"(\d+)\. (.+?)(?= \d+\. |$)", text)
    assert [int(number) for number, _ in parts] == list(range(1, len(parts) + 1))
    return Counter(word for _, word in parts)


@pytest.mark.parametrize(
    ("length", "common", "rare", "example"),
    [(4096, 30, 3, (40, 10, 3)), (4095, 6, 1, (20, 3, 1))],
)
def test_common_words_are_counted_out(
    length: int, common: int, rare: int, example: tuple[int, int, int]
) -> None:
    made = sample(TASKS["cwe"], 50, setting(length), "0")
    lines = made.prompt.split("\n")
    of_example, of_question = listed(lines[1]), listed(lines[4])
    assert sorted(of_question.values()) == [rare] * 40 + [common] * 10
    assert {word for word, n in of_question.items() if n == common} == set(made.answers)
    size, often, seldom = example
    assert sorted(of_example.values()) == [seldom] * (size - 10) + [often] * 10
    solution = listed(lines[2].split(":")[-1].strip())
    assert set(solution) == {word for word, n in of_example.items() if n == often}


def test_frequent_words_follow_the_zeta_distribution() -> None:
    made = sample(TASKS["fwe"], 3000, setting(4096), "0")
    found = Counter(made.prompt.split(". ", 2)[2].split("\n")[0].split())
    counts = [int(3000 / k**2 / 1.6449340668482264) for k in range(1, (4096 - 50) // 50 + 1)]
    assert sorted(found.values(), reverse=True) == [n for n in counts if n > 0]
    (dots, n), *rest = found.most_common(4)
    assert (dots, n) == ("...", counts[0])
    assert [word for word, _ in rest] == list(made.answers)
    assert all(re.fullmatch(r"[a-z]{6}", word) for word in found if word != "...")


@pytest.mark.parametrize("length", [1024, 4096, 8192])
@pytest.mark.parametrize("name", TASKS)
def test_samples_fill_the_budget_and_never_pass_it(name: str, length: int) -> None:
    task = TASKS[name]
    prepared = sizing.prepared(task, setting(length), count)
    size = sizing.largest(task, prepared, count, "size")
    step = sizing.step_of(task, length)
    for seed in ("0", "1"):
        made, tokens = sizing.fitted(task, size, prepared, count, seed)
        assert tokens == count(made.prompt + made.prefix) + task.tokens <= length
        assert tokens > 0.7 * length
        larger = sample(task, size + 2 * step, prepared, seed)
        assert sizing.tokens_of(task, larger, count) > length


def test_answer_budgets_are_the_recipes() -> None:
    assert {name: task.tokens for name, task in TASKS.items()} == {
        **dict.fromkeys(NIAH, 128),
        **{"vt": 30, "cwe": 120, "fwe": 50},
    }


def test_too_short_a_budget_is_refused() -> None:
    with pytest.raises(LockstepError, match="smallest sample of cwe ") as caught:
        sizing.largest(TASKS["cwe"], setting(256), count, "0")
    assert (caught.value.code, caught.value.field) == ("LS_EVAL_LENGTH", "lengths")


def test_a_conversation_wraps_task_and_examples() -> None:
    wrap = ("<user>", "</user>")
    for name, users in (("niah_single_1", 1), ("vt", 1), ("cwe", 2), ("fwe", 1)):
        made = sample(TASKS[name], 60, setting(4096, wrap=wrap), "0")
        assert made.prompt.startswith("<user>") and made.prompt.endswith("</user>")
        assert made.prompt.count("<user>") == made.prompt.count("</user>") == users
        assert made.prefix.startswith(" ")


def test_more_words_than_the_list_has() -> None:
    assert len(words.english()) > 8000
    drawn = words.distinct(12_000, random.Random(0))
    assert len(set(drawn)) == 12_000
    assert drawn == words.distinct(12_000, random.Random(0))


def test_scores_of_one_answer() -> None:
    answers = ["1234567", "Quick-Fox"]
    assert string_match_all("it is 1234567 and QUICK-fox.", answers) == 100.0
    assert string_match_all("it is 1234567.", answers) == 50.0
    assert string_match_all("", answers) == 0.0
    assert string_match_part("it is quick-fox", answers) == 100.0
    assert string_match_part("it is 123456", answers) == 0.0
    assert cleaned(" \n a\tb\x00c \x01") == "a\nb\nc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples of every task by a real tokenizer: bytes and a few merges, so lengths are bytes."""
    folder = tmp_path_factory.mktemp("ruler")
    checkpoint = make_tiny.write(folder / "model")
    found = make.run(
        {
            "folder": str(folder),
            "dir": str(checkpoint),
            "tasks": list(TASKS),
            "lengths": [8192],
            "samples": 3,
            "seed": 42,
            "haystack": str(LICENSE),
            "bos": 0,
            "wrap": ["", ""],
        }
    )
    assert found["samples"] == 3 * len(TASKS) and found["haystack"]["words"] == len(ESSAY)
    return folder


def lines(folder: Path) -> list[dict]:
    text = (folder / score.SAMPLES).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def tokenizer_ids(model: Path, text: str) -> list[int]:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_made_samples_fit_with_bos(made: Path) -> None:
    counted = make.token_counter(str(made / "model"), 1)
    for one in lines(made):
        assert one["tokens"] == counted(one["prompt"] + one["prefix"]) + one["maxTokens"]
        assert one["tokens"] <= 8192
    # BOS is not put before a text that begins with it (of a chat template).
    plain = make.token_counter(str(made / "model"), None)
    (first,) = tokenizer_ids(made / "model", "x")
    assert make.token_counter(str(made / "model"), first)("xyz") == plain("xyz")
    assert make.token_counter(str(made / "model"), first)("abc") == plain("abc") + 1
    prompts = {one["prompt"] for one in lines(made)}
    assert len(prompts) == 3 * len(TASKS)


def test_perfect_and_empty_answers_score_100_and_0(made: Path) -> None:
    answered = {
        "perfect": lambda one: "\n" + ", ".join(one["answers"]).upper() + "\u2028",
        "empty": lambda one: " \t",
        "half": lambda one: "" if one["index"] == 0 else " ".join(one["answers"]),
    }
    for name, answer in answered.items():
        text = "".join(
            json.dumps({**one, "text": answer(one)}, ensure_ascii=False) + "\n"
            for one in lines(made)
        )
        (made / f"{name}.jsonl").write_text(text, encoding="utf-8")
    rows = score.run({"folder": str(made), "suite": "ruler", "rows": list(answered), "pairs": []})[
        "rows"
    ]
    for name, expected, empty in (("perfect", 100.0, 0), ("empty", 0.0, 3), ("half", 200 / 3, 1)):
        found = rows[name]["scores"]
        assert [one["task"] for one in found] == list(TASKS)
        for one in found:
            assert (one["length"], one["samples"], one["empty"]) == (8192, 3, empty)
            assert one["score"] == pytest.approx(expected)
        (mean,) = rows[name]["means"]
        assert mean["score"] == pytest.approx(expected) and mean["length"] == 8192
    # Three samples of a task say too little of how much they vary.
    assert rows["half"]["means"][0]["low"] is None


def test_intervals_draw_samples_again_within_their_tasks(tmp_path: Path) -> None:
    def written(name: str, text: Callable[[str, int], str]) -> None:
        keys = [(task, index) for task in ("vt", "cwe") for index in range(8)]
        lines = [
            {"task": task, "length": 64, "index": index, "answers": ["x"]}
            | ({} if name == "samples" else {"text": text(task, index)})
            for task, index in keys
        ]
        file = tmp_path / (score.SAMPLES if name == "samples" else f"{name}.jsonl")
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    written("samples", lambda task, index: "")
    written("tasks", lambda task, index: "x" if task == "vt" else "")
    written("mixed", lambda task, index: "x" if index % 2 else "")
    written("worse", lambda task, index: "x" if index % 2 and task == "vt" else "")
    description = {"folder": str(tmp_path), "suite": "ruler"}
    rows = ["tasks", "mixed", "worse"]
    pairs = [["mixed", "worse"], ["mixed", "tasks"], ["mixed", "mixed"]]
    found = score.run({**description, "rows": rows, "pairs": pairs})
    bounds = {name: found["rows"][name]["means"][0] for name in rows}
    # The tasks are given: that they differ makes no mean of them uncertain.
    assert bounds["tasks"] == {"length": 64, "score": 50.0, "low": 50.0, "high": 50.0}
    assert bounds["mixed"]["score"] == 50.0
    assert bounds["mixed"]["low"] < 40 and bounds["mixed"]["high"] > 60
    first, second, same = found["differences"]
    assert (first["of"], first["to"], first["length"]) == ("mixed", "worse", 64)
    assert first["difference"] == 25.0 and 0 < first["low"] < 25 < first["high"]
    assert second["difference"] == 0.0 and second["low"] < 0 < second["high"]
    assert (same["difference"], same["low"], same["high"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("length", [140, 200, 300, 600])
def test_frequent_words_have_their_answers_or_are_refused(length: int) -> None:
    task = TASKS["fwe"]
    try:
        size = sizing.largest(task, setting(length), count, "size")
    except LockstepError as error:
        assert error.code == "LS_EVAL_LENGTH" and length < 600
        return
    made, _ = sizing.fitted(task, size, setting(length), count, "0")
    found = Counter(made.prompt.split())
    times = [found[word] for word in made.answers]
    others = [found[word] for word in found if re.fullmatch(r"[a-z]{6}", word)]
    assert len(made.answers) == task.words and times == sorted(times, reverse=True)
    assert sum(n >= times[-1] for n in others if n not in times) == 0


def test_a_missing_answer_is_an_error(made: Path) -> None:
    (made / "broken.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(LockstepError, match="niah_single_1") as caught:
        score.run({"folder": str(made), "suite": "ruler", "rows": ["broken"], "pairs": []})
    assert caught.value.code == "LS_EVAL_ANSWERS"


def test_the_command_names_the_same_tasks() -> None:
    source = (LICENSE.parent / "src" / "cli" / "eval" / "tasks.ts").read_text(encoding="utf-8")
    listed = source.split("rulerTasks = [", 1)[1].split("]", 1)[0]
    assert re.findall(r"'(\w+)'", listed) == list(TASKS)
    essays = source.split("essayTasks: readonly string[] = [", 1)[1].split("]", 1)[0]
    assert re.findall(r"'(\w+)'", essays) == [
        name for name, task in TASKS.items() if getattr(task, "haystack", None) == "essay"
    ]
