"""One sample of a task at a given size: its text, and the answers that a perfect model gives."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise

from lockstep.evaluation.ruler import tasks, words
from lockstep.evaluation.ruler.tasks import (
    CommonWords,
    FrequentWords,
    Niah,
    Task,
    Template,
    Tracking,
)

#: The 40 depths, in percent, at which a needle may stand in an essay.
DEPTHS = [round(100 * i / 39) for i in range(40)]
SHORT = 4096  # below so many tokens the recipe has smaller counts


@dataclass(frozen=True)
class Sample:
    """``prompt`` is what the model reads up to the answer's beginning ``prefix``, which it reads
    too; every string of ``answers`` is to be found in what it then writes."""

    prompt: str
    prefix: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What all samples of a task share.

    length: budget in tokens, prompt and answer. essay: the haystack's words. wrap: text before and
    behind the task, where the model wants a conversation; the answer's beginning follows it.
    example: lines of noise in the solved example of variable tracking.
    """

    length: int
    essay: tuple[str, ...]
    wrap: tuple[str, str] = ("", "")
    example: int = 5

    def asked(self, template: Template, **fields: object) -> tuple[str, str]:
        """Prompt and beginning of the answer."""
        before, behind = self.wrap
        return before + template.task.format(**fields) + behind, template.answer.format(**fields)


def sample(task: Task, size: int, setting: Setting, seed: str) -> Sample:
    """A sample with ``size`` units of haystack: words of an essay, sentences, or words of a list.

    The same arguments give the same sample.
    """
    rng = random.Random(seed)
    match task:
        case Niah():
            return _niah(task, size, setting, rng)
        case Tracking():
            return _tracking(task, size, setting, rng)
        case CommonWords():
            return _common(task, size, setting, rng)
        case FrequentWords():
            return _frequent(task, size, setting, rng)


def _niah(task: Niah, size: int, setting: Setting, rng: random.Random) -> Sample:
    keys = [words.draw(task.key, rng) for _ in range(task.keys)]
    values = [[words.draw(task.value, rng) for _ in range(task.values)] for _ in keys]

    def needle(key: str, value: str) -> str:
        return tasks.NEEDLE.format(kind=task.value, key=key, value=value)

    needles = [needle(k, v) for k, vs in zip(keys, values, strict=True) for v in vs]
    rng.shuffle(needles)
    if task.haystack == "essay":
        context = _among_sentences(needles, size, setting.essay, rng)
    else:
        if task.haystack == "noise":
            hay = [tasks.NOISE] * size
        else:
            drawn = ((words.draw(task.key, rng), words.draw(task.value, rng)) for _ in range(size))
            hay = [needle(key, value) for key, value in drawn]
        places = sorted(rng.sample(range(size), len(needles)), reverse=True)
        for place, one in zip(places, needles, strict=True):
            hay.insert(place, one)
        context = "\n".join(hay)
    asked = rng.sample(range(task.keys), task.queries)
    answers = tuple(value for i in asked for value in values[i])
    template, kind = tasks.NIAH_MANY, str(task.value)
    if len(answers) == 1:
        template, kind = tasks.NIAH_ONE, kind.removesuffix("s")
    prompt, prefix = setting.asked(
        template, kind=kind, context=context, query=_listed([keys[i] for i in asked])
    )
    return Sample(prompt, prefix, answers)


def _among_sentences(
    needles: list[str], size: int, essay: tuple[str, ...], rng: random.Random
) -> str:
    """The first ``size`` words of the essay, repeated as needed, with needles between sentences."""
    repeated = essay * math.ceil(size / len(essay))
    parts = words.sentences(" ".join(repeated[:size]))
    depths = sorted(rng.sample(DEPTHS, len(needles)))
    places = [int(len(parts) * depth / 100) for depth in depths]
    out: list[str] = []
    for start, end, one in zip([0, *places], places, needles, strict=False):
        out += [*parts[start:end], one]
    return " ".join(out + parts[places[-1] :])


def _listed(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else ", ".join(keys[:-1]) + ", and " + keys[-1]


def _tracking(task: Tracking, size: int, setting: Setting, rng: random.Random) -> Sample:
    """A solved example, with shorter names and less noise, stands before the question."""
    lines, answers = _chain(task, setting.example, 3, rng)
    solved = "".join(_asked_chain(task, lines, answers, Setting(setting.length, ())))
    shown = f"{solved} {' '.join(answers)}\n\n"
    lines, answers = _chain(task, size, 5, rng)
    prompt, prefix = _asked_chain(task, lines, answers, setting)
    before = setting.wrap[0]
    return Sample(before + shown + prompt.removeprefix(before), prefix, answers)


def solved_chain(task: Tracking, size: int, seed: str) -> str:
    """The example alone: its size decides about ``Setting.example``."""
    lines, answers = _chain(task, size, 3, random.Random(seed))
    return "".join(_asked_chain(task, lines, answers, Setting(0, ())))


def _asked_chain(
    task: Tracking, lines: list[str], answers: tuple[str, ...], setting: Setting
) -> tuple[str, str]:
    value = next(line for line in lines if line.startswith(f"VAR {answers[0]} = ")).split()[-1]
    return setting.asked(tasks.TRACKING, context="\n".join(lines), query=value, count=len(answers))


def _chain(
    task: Tracking, size: int, letters: int, rng: random.Random
) -> tuple[list[str], tuple[str, ...]]:
    """``size`` lines of noise and, in order among them, the assignments; the variables."""
    names = words.names(task.hops + 1, letters, rng)
    steps = [f"VAR {names[0]} = {rng.randint(10000, 99999)}"]
    steps += [f"VAR {name} = VAR {before}" for before, name in pairwise(names)]
    lines = [tasks.NOISE] * size
    places = sorted(rng.sample(range(size), len(steps)))
    for offset, (place, step) in enumerate(zip(places, steps, strict=True)):
        lines.insert(place + offset, step)
    return lines, tuple(names)


def _common(task: CommonWords, size: int, setting: Setting, rng: random.Random) -> Sample:
    """One solved example stands before the question; short budgets have lower counts."""
    short = setting.length < SHORT
    example, solution = _word_list(task, *((20, 3, 1) if short else (40, 10, 3)), rng)
    context, answers = _word_list(task, size, *((6, 1) if short else (task.common, task.rare)), rng)
    solved = "".join(setting.asked(tasks.COMMON, context=example))
    shown = " ".join(f"{i}. {word}" for i, word in enumerate(solution, 1))
    prompt, prefix = setting.asked(tasks.COMMON, context=context)
    return Sample(f"{solved} {shown}\n{prompt}", prefix, answers)


def _word_list(
    task: CommonWords, size: int, common: int, rare: int, rng: random.Random
) -> tuple[str, tuple[str, ...]]:
    drawn = words.distinct(size, rng)
    most, others = drawn[: task.words], drawn[task.words :]
    listed = most * common + others * rare
    rng.shuffle(listed)
    return " ".join(f"{i}. {word}" for i, word in enumerate(listed, 1)), tuple(most)


def vocabulary_size(task: FrequentWords, length: int) -> int:
    return max(1, (length - task.tokens) // 50)


def zeta_counts(size: int, words: int) -> list[int]:
    """How often word k = 1, 2, ... stands there: int(size * k^-2 / zeta(2))."""
    zeta = math.pi**2 / 6  # of 2
    return [int(size * k**-2.0 / zeta) for k in range(1, words + 1)]


def _frequent(task: FrequentWords, size: int, setting: Setting, rng: random.Random) -> Sample:
    """A vocabulary of one word for every 50 tokens; the first is dots."""
    count = vocabulary_size(task, setting.length)
    vocabulary = ["...", *words.coded(count - 1, task.letters, rng)]
    counts = zeta_counts(size, len(vocabulary))
    text = [word for word, times in zip(vocabulary, counts, strict=True) for _ in range(times)]
    rng.shuffle(text)
    prompt, prefix = setting.asked(tasks.FREQUENT, context=" ".join(text))
    return Sample(prompt, prefix, tuple(vocabulary[1 : 1 + task.words]))
