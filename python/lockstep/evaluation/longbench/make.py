"""Job: LongBench's prompts for a checkpoint's tokenizer.

``python -m lockstep.evaluation.longbench.make`` reads ``{folder, dir, data, tasks, lengths,
samples, bos, wrap}`` and writes ``samples.jsonl`` into ``folder``, as `ruler.make` does; beside
``answers`` a line has ``classes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.evaluation.counting import token_counter
from lockstep.evaluation.longbench.metrics import MEASURES
from lockstep.evaluation.score import SAMPLES
from lockstep.evaluation.write_once import write_once
from lockstep.tokenizer.encoding import token_ids
from lockstep.tokenizer.file import load_tokenizer

#: These go without the chat template.
PLAIN = frozenset({"trec", "triviaqa", "samsum", "lcc", "repobench-p"})
PROMPTS, BUDGETS = "dataset2prompt.json", "dataset2maxlen.json"


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{tasks, samples}``: the tasks that were found, or asked for, and lines written."""
    folder, data = Path(description["folder"]), Path(description["data"])
    tokenizer = load_tokenizer(description["dir"])
    prompts, budgets = _table(data, PROMPTS), _table(data, BUDGETS)
    files = _files(data, description["tasks"])
    for table, name in ((prompts, PROMPTS), (budgets, BUDGETS)):
        absent = [task for task in files if task not in table]
        if absent:
            raise LockstepError(
                "LS_EVAL_DATA",
                f"expected {', '.join(absent)} in {name} of {data}, got no such entry",
                f"Copy {name} and the data from the same version.",
            )
    count = token_counter(description["dir"], description["bos"])
    lines: list[str] = []
    for length in description["lengths"]:
        for done, (task, file) in enumerate(files.items()):
            job.check_cancelled()
            job.emit("progress", stage="making samples", done=done, total=len(files))
            wrap = ("", "") if task in PLAIN else description["wrap"]
            around = count(wrap[0]) + len(token_ids(tokenizer, wrap[1]))  # and BOS
            budget = length - int(budgets[task]) - around
            if budget < 2:
                raise LockstepError(
                    "LS_EVAL_LENGTH",
                    f"expected room for an answer of {task} ({budgets[task]} tokens), got a length "
                    f"of {length}",
                    "Give longer --lengths, or leave the task out with --tasks.",
                    "lengths",
                )
            for index, one in enumerate(_records(file, description["samples"])):
                text = cut_middle(tokenizer, _filled(prompts[task], one, file), budget)
                prompt = wrap[0] + text + wrap[1]
                record = {"task": task, "length": length, "index": index, "prompt": prompt}
                record |= {"prefix": "", "answers": one["answers"], "maxTokens": budgets[task]}
                record |= {"classes": one.get("all_classes") or []}
                lines.append(json.dumps(record) + "\n")
    write_once(folder / SAMPLES, "".join(lines))
    return {"tasks": list(files), "samples": len(lines)}


def cut_middle(tokenizer: Any, text: str, budget: int) -> str:
    """The text, or where it is longer than ``budget`` tokens its two ends: half of them each."""
    ids = token_ids(tokenizer, text)
    if len(ids) <= budget:
        return text
    half = budget // 2
    while True:
        cut = str(tokenizer.decode(ids[:half])) + str(tokenizer.decode(ids[-half:]))
        # Half characters and the joint may make more tokens of the same text.
        over = len(token_ids(tokenizer, cut)) - budget
        if over <= 0 or half == 1:
            return cut
        half = max(1, half - (over + 1) // 2)


def _files(data: Path, tasks: list[str] | None) -> dict[str, Path]:
    """Files of the tasks asked for, else of all that the folder has (`_e`: LongBench-E)."""
    for task in tasks or ():
        if task not in MEASURES:
            raise LockstepError(
                "LS_EVAL_TASK",
                f"expected tasks of {', '.join(MEASURES)}, got {task!r}",
                "Leave it out of --tasks: Lockstep does not have its published metric.",
                "tasks",
            )
    found = {}
    for task in MEASURES if tasks is None else tasks:
        names = (f"{task}.jsonl", f"data/{task}.jsonl", f"{task}_e.jsonl", f"data/{task}_e.jsonl")
        file = next((data / name for name in names if (data / name).is_file()), None)
        if file is not None:
            found[task] = file
        elif tasks is not None:
            raise _missing(data, f"{task}.jsonl")
    if not found:
        raise _missing(data, "TASK.jsonl of any English or code task")
    return found


def _table(data: Path, name: str) -> dict[str, Any]:
    for file in (data / name, data / "config" / name):
        if file.is_file():
            try:
                table = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise _broken(file, f"an object, got: {error}") from error
            if not isinstance(table, dict):
                raise _broken(file, f"an object, got {type(table).__name__}")
            return table
    raise _missing(data, name)


def _records(file: Path, count: int) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream):
            if number == count:
                return
            try:
                one = json.loads(line)
                one["answers"]
            except (ValueError, TypeError, KeyError) as error:
                expected = f"an object with answers in line {number + 1}, got: {error}"
                raise _broken(file, expected) from error
            yield one
    if not file.stat().st_size:
        raise _broken(file, "a line for each sample, got none")


def _broken(file: Path, expected: str) -> LockstepError:
    return LockstepError("LS_EVAL_DATA", f"expected in {file} {expected}", "Copy the file again.")


def _filled(prompt: str, one: dict[str, Any], file: Path) -> str:
    try:
        return prompt.format(**one)
    except (KeyError, IndexError) as error:
        raise LockstepError(
            "LS_EVAL_DATA",
            f"expected the fields that {PROMPTS} names in {file}, got none called {error}",
            f"Copy {PROMPTS} and the data from the same version.",
        ) from error


def _missing(data: Path, name: str) -> LockstepError:
    return LockstepError(
        "LS_EVAL_LONGBENCH",
        f"expected {name} in {data}, got none",
        "Give with --data a folder that holds LongBench's data as TASK.jsonl and, from its "
        f"repository's config folder, {PROMPTS} and {BUDGETS}",
        "data",
    )


if __name__ == "__main__":
    job.main(run)
