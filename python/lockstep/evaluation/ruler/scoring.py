"""How an answer is scored: scripts/eval/synthetic/constants.py and scripts/eval/evaluate.py."""

from __future__ import annotations

import re
from collections.abc import Sequence


def cleaned(prediction: str) -> str:
    """Without white space at the ends; control characters become line ends."""
    return re.sub(r"[\x00-\x1f]", "\n", prediction.strip()).strip()


def string_match_all(prediction: str, answers: Sequence[str]) -> float:
    """Share of the answers that occur in the prediction, whatever the case: 0 to 100."""
    text = prediction.lower()
    return 100.0 * sum(answer.lower() in text for answer in answers) / len(answers)


def string_match_part(prediction: str, answers: Sequence[str]) -> float:
    """100 where any of the answers occurs in the prediction, else 0 (the recipe's QA tasks)."""
    text = prediction.lower()
    return 100.0 * any(answer.lower() in text for answer in answers)
