"""Job: RULER's samples for a checkpoint's tokenizer.

``python -m lockstep.evaluation.ruler.make`` reads ``{folder, dir, tasks, lengths, samples, seed,
haystack, bos, wrap}`` and writes ``samples.jsonl`` into ``folder``: lines of ``{task, length,
index, prompt, prefix, answers, tokens, maxTokens}``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.evaluation.counting import token_counter
from lockstep.evaluation.ruler.samples import Setting
from lockstep.evaluation.ruler.sizing import fitted, largest, prepared
from lockstep.evaluation.ruler.tasks import TASKS, Niah
from lockstep.evaluation.score import SAMPLES
from lockstep.evaluation.write_once import write_once
from lockstep.tokenizer.first_tokens import read_part

ESSAY_CHARACTERS = 64 << 20


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{tasks, samples, haystack: {words, repeats}}``; samples: lines written; repeats: how often
    the longest of them holds the essay."""
    folder = Path(description["folder"])
    names, lengths = description["tasks"], description["lengths"]
    for name in names:
        if name not in TASKS:
            raise LockstepError(
                "LS_EVAL_TASK", f"expected tasks of {', '.join(TASKS)}, got {name!r}", field="tasks"
            )
    essay = essay_of(Path(description["haystack"]))
    count = token_counter(description["dir"], description["bos"])
    total, lines, words = len(names) * len(lengths), [], 0
    for done, (length, name) in enumerate((n, name) for n in lengths for name in names):
        job.check_cancelled()
        job.emit("progress", stage="making samples", done=done, total=total)
        setting = Setting(length, essay, tuple(description["wrap"]))
        task, seed = TASKS[name], f"{description['seed']}/{name}/{length}"
        setting = prepared(task, setting, count)
        size = largest(task, setting, count, f"{seed}/size")
        if isinstance(task, Niah) and task.haystack == "essay":
            words = max(words, size)
        for index in range(description["samples"]):
            made, tokens = fitted(task, size, setting, count, f"{seed}/{index}")
            record = {"task": name, "length": length, "index": index, "prompt": made.prompt}
            record |= {"prefix": made.prefix, "answers": made.answers, "tokens": tokens}
            lines.append(json.dumps({**record, "maxTokens": task.tokens}) + "\n")
    write_once(folder / SAMPLES, "".join(lines))
    haystack = {"words": len(essay), "repeats": words / len(essay)}
    return {"tasks": names, "samples": len(lines), "haystack": haystack}


def essay_of(file: Path) -> tuple[str, ...]:
    """Words of the haystack. Raises ``LS_TEXT_*``; ``LS_TEXT_SHORT`` where there is none."""
    words = tuple(read_part(file, 0, ESSAY_CHARACTERS)[0].split())
    if not words:
        raise LockstepError(
            "LS_TEXT_SHORT", f"expected words in {file}, got none", field="haystack"
        )
    return words


if __name__ == "__main__":
    job.main(run)
