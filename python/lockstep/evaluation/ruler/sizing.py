"""How much haystack fits a budget of tokens, as the recipe finds it.

The largest size that fits is searched once for a task and a length; a sample that turns out longer
gives up a step at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lockstep.errors import LockstepError
from lockstep.evaluation.counting import Count
from lockstep.evaluation.ruler.samples import (
    SHORT,
    Sample,
    Setting,
    sample,
    solved_chain,
    vocabulary_size,
    zeta_counts,
)
from lockstep.evaluation.ruler.tasks import TASKS, CommonWords, FrequentWords, Niah, Task, Tracking

#: Tokens of variable tracking's solved example, at most.
EXAMPLE = 500


def step_of(task: Task, length: int) -> int:
    """Smallest size, and by how much a size shrinks.

    Below 4,096 tokens an essay's steps are 50 words, where the recipe's 500 would not fit.
    """
    short = length < SHORT
    match task:
        case Niah():
            if task.haystack == "essay":
                return 50 if short else 500
            return 5 if short else 25
        case Tracking():
            return 5 if short else 10
        case CommonWords():
            return 10
        case FrequentWords():
            return max(1, (length - task.tokens) // 32)


def prepared(task: Task, setting: Setting, count: Count) -> Setting:
    """The setting with the size of variable tracking's example, where the task has one."""
    if not isinstance(task, Tracking):
        return setting
    size = _largest(lambda size: count(solved_chain(task, size, "example")) <= EXAMPLE, 5)
    return replace(setting, example=size or 5)


def largest(task: Task, setting: Setting, count: Count, seed: str) -> int:
    """The largest size whose sample fits. Raises ``LS_EVAL_LENGTH`` where the smallest does not."""
    step = step_of(task, setting.length)

    def used(size: int) -> int:
        return tokens_of(task, sample(task, size, setting, seed), count)

    found = _largest(lambda size: used(size) <= setting.length, step)
    if found is None or not _answerable(task, found, setting):
        raise _too_short(task, setting.length, used(step))
    return found


def fitted(task: Task, size: int, setting: Setting, count: Count, seed: str) -> tuple[Sample, int]:
    """A sample of that size, or of fewer steps where it would not fit, and its tokens."""
    step = step_of(task, setting.length)
    while True:
        made = sample(task, size, setting, seed)
        tokens = tokens_of(task, made, count)
        if tokens <= setting.length:
            return made, tokens
        smaller = max(step, size - step)
        if size <= step or not _answerable(task, smaller, setting):
            raise _too_short(task, setting.length, tokens)
        size = smaller


def _answerable(task: Task, size: int, setting: Setting) -> bool:
    """Frequent words: there are as many as are asked for, each more frequent than any other."""
    if not isinstance(task, FrequentWords):
        return True
    counts = [*zeta_counts(size, vocabulary_size(task, setting.length)), 0][1:]
    return len(counts) > task.words and counts[task.words - 1] > counts[task.words]


def tokens_of(task: Task, made: Sample, count: Count) -> int:
    """Tokens of the prompt, the answer's beginning and the answer."""
    return count(made.prompt + made.prefix) + task.tokens


def _largest(fits: Callable[[int], bool], least: int) -> int | None:
    """The largest size from ``least`` on that fits, where fitting ends once for good."""
    if not fits(least):
        return None
    low, high = least, 2 * least
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _too_short(task: Task, length: int, tokens: int) -> LockstepError:
    name = next((name for name, one in TASKS.items() if one == task), type(task).__name__)
    return LockstepError(
        "LS_EVAL_LENGTH",
        f"expected room for the smallest sample of {name} ({tokens} tokens), got a length of "
        f"{length}",
        "Give longer --lengths, or leave the task out with --tasks.",
        "lengths",
    )
