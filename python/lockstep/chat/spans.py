"""Where the assistant's turns stand in a rendered conversation.

Two sound ways. A template that has `{% generation %}` says it itself. Otherwise the conversation is
rendered up to each turn: with the header of an answer, as serving renders a prompt, and with the
answer. Where each of these texts begins the whole one, the answer lies between the two. Where one
does not (a template that drops earlier reasoning, or opens an answer otherwise than history shows
it), what is trained would not be what is served, and the conversation is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from .environment import Span

Text = Callable[[int, bool], str]  # (number of messages, header of an answer at the end) -> text
MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Unsound(Exception):
    """Why the assistant's turns cannot be told from the rest."""


def marked(source: str) -> bool:
    """Whether a template has `{% generation %}`, by transformers' own test."""
    return MARK.search(source) is not None


def by_prefixes(whole: str, text: Text, turns: Sequence[int], count: int) -> list[Span]:
    """Characters of the assistant's messages ``turns`` (indices among ``count``) in ``whole``.

    Raises `Unsound` with the turn and the place where the texts part.
    """
    spans = []
    for turn in turns:
        prompt = text(turn, True)
        if not whole.startswith(prompt):
            raise Unsound(
                f"the prompt before message {turn + 1} is not how the conversation begins"
                + _parting(whole, prompt)
            )
        upto = whole if turn + 1 == count else text(turn + 1, False)
        if not whole.startswith(upto) or len(upto) < len(prompt):
            raise Unsound(
                f"message {turn + 1} is written otherwise once others follow it"
                + _parting(whole, upto)
            )
        spans.append((len(prompt), len(upto)))
    return spans


def _parting(whole: str, part: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(whole, part, strict=False)) if a != b), None)
    at = min(len(whole), len(part)) if at is None else at
    return f" (from character {at}: {whole[at : at + 20]!r} against {part[at : at + 20]!r})"
