"""How an answer is scored, 0 to 100: the best over the accepted answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from types import MappingProxyType

#: (prediction, accepted answer, classes) -> 0 to 1
Measure = Callable[[str, str, Sequence[str]], float]

#: Of these the first line is the answer: models go on with another example.
FIRST_LINE = frozenset({"trec", "triviaqa", "samsum"})


def score(task: str, prediction: str, answers: Sequence[str], classes: Sequence[str]) -> float:
    """Score of a prediction; ``task`` is one of `MEASURES`."""
    if task in FIRST_LINE:
        prediction = prediction.lstrip("\n").split("\n")[0]
    measure = MEASURES[task]
    return 100.0 * max((measure(prediction, answer, classes) for answer in answers), default=0.0)


def words_f1(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """F1 of the bags of words, without case, punctuation and articles."""
    a, b = _normalized(prediction), _normalized(answer)
    return _f1(sum((Counter(a) & Counter(b)).values()), len(a), len(b))


def rouge_l(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """F1 of the longest common subsequence of words (Lin 2004, sentence level)."""
    a, b = prediction.split(), answer.split()
    return _f1(_common_subsequence(a, b), len(a), len(b))


def classified(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 over the number of classes that the prediction names, where the right one is among them.

    A class whose name is a part of the right one's does not count.
    """
    named = [name for name in classes if name in prediction]
    named = [name for name in named if name == answer or name not in answer]
    return 1.0 / len(named) if answer in named else 0.0


def counted(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """Share of the numbers in the prediction that are the right one."""
    numbers = re.findall(r"\d+", prediction)
    return sum(number == answer for number in numbers) / len(numbers) if numbers else 0.0


def found_paragraph(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """The same, where the answer names a paragraph by its number."""
    numbers = re.findall(r"\d+", answer)
    return counted(prediction, numbers[0], classes) if numbers else 0.0


def similar_code(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """Likeness of the first line that is no comment and no mark of code, in whole percents."""
    lines = prediction.lstrip("\n").split("\n")
    line = next((one for one in lines if not any(m in one for m in ("`", "#", "//"))), "")
    return round(100 * SequenceMatcher(None, line, answer).ratio()) / 100


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "narrativeqa": words_f1,
        "qasper": words_f1,
        "multifieldqa_en": words_f1,
        "hotpotqa": words_f1,
        "2wikimqa": words_f1,
        "musique": words_f1,
        "gov_report": rouge_l,
        "qmsum": rouge_l,
        "multi_news": rouge_l,
        "trec": classified,
        "triviaqa": words_f1,
        "samsum": rouge_l,
        "passage_count": counted,
        "passage_retrieval_en": found_paragraph,
        "lcc": similar_code,
        "repobench-p": similar_code,
    }
)


def _normalized(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _f1(common: int, predicted: int, wanted: int) -> float:
    return 2.0 * common / (predicted + wanted) if common else 0.0


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        corner = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = corner + 1 if word == other else max(above, row[j - 1])
            corner = above
    return row[-1]
