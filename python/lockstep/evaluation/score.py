"""Job: scores of what the rows' engines answered.

``python -m lockstep.evaluation.score`` reads ``{folder, suite, rows, pairs}`` and, for every row,
takes ``ROW.jsonl`` of ``folder``: lines of ``{task, length, index, text}``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.evaluation import intervals
from lockstep.evaluation.longbench import metrics
from lockstep.evaluation.ruler.scoring import cleaned, string_match_all

SAMPLES = "samples.jsonl"
Key = tuple[str, int, int]


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{rows: {name: {scores: [{task, length, samples, score, low, high, empty}], means: [{length,
    score, low, high}]}}, differences: [{of, to, length, difference, low, high}]}``.

    A mean is over the tasks of a length, each with the mean of its samples. A difference is of the
    means of two rows (``pairs``), over the same samples.
    """
    folder = Path(description["folder"])
    samples = {_key(one): one for one in _lines(folder / SAMPLES)}
    rows: dict[str, Any] = {}
    all_scores: dict[str, dict[Key, float]] = {}
    for name in description["rows"]:
        found = {_key(one): cleaned(one["text"]) for one in _lines(folder / f"{name}.jsonl")}
        missing = [key for key in samples if key not in found]
        if missing:
            raise LockstepError(
                "LS_EVAL_ANSWERS",
                f"expected an answer of {name} to every sample, got none to {missing[0]}",
                "Run the evaluation again with the same --out.",
            )
        scores = {
            key: _score(description["suite"], found[key], one) for key, one in samples.items()
        }
        empty = {key for key in samples if not found[key]}
        all_scores[name] = scores
        means = [
            {"length": length, **estimate.as_dict("score")}
            for length, estimate in _by_length(scores).items()
        ]
        rows[name] = {"scores": _by_task(scores, empty), "means": means}
    differences: list[dict[str, Any]] = []
    for of, to in description["pairs"]:
        a, b = all_scores[of], all_scores[to]
        differences += [
            {"of": of, "to": to, "length": length, **estimate.as_dict("difference")}
            for length, estimate in _by_length({key: a[key] - b[key] for key in samples}).items()
        ]
    return {"rows": rows, "differences": differences}


def _score(suite: str, text: str, sample: dict[str, Any]) -> float:
    if suite == "ruler":
        return string_match_all(text, sample["answers"])
    return metrics.score(sample["task"], text, sample["answers"], sample["classes"])


def _by_task(scores: dict[Key, float], empty: set[Key]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, int], list[Key]] = {}
    for key in scores:
        groups.setdefault(key[:2], []).append(key)
    return [
        {
            "task": task,
            "length": length,
            "samples": len(keys),
            "empty": sum(key in empty for key in keys),
            **_mean([scores[key] for key in keys]),
        }
        for (task, length), keys in groups.items()
    ]


def _by_length(scores: dict[Key, float]) -> dict[int, intervals.Estimate]:
    groups: dict[int, dict[str, list[float]]] = {}
    for (task, length, _), score in scores.items():
        groups.setdefault(length, {}).setdefault(task, []).append(score)
    return {
        length: intervals.mean_of_means(list(tasks.values())) for length, tasks in groups.items()
    }


def _mean(values: Sequence[float]) -> dict[str, float | None]:
    return intervals.mean(values).as_dict("score")


def _key(one: dict[str, Any]) -> Key:
    return one["task"], one["length"], one["index"]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


if __name__ == "__main__":
    job.main(run)
