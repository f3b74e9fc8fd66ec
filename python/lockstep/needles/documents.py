"""Texts with needles in them: functions of a seed, in token ids.

A document is a text of the user with one needle at each depth, each worded differently. It is read
once. For every needle, one question is asked after the end.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from lockstep.errors import LockstepError
from lockstep.tokenizer.encoding import encodings, token_ids

from .templates import KINDS, TEMPLATES, Kind, Split, Template, key, value

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

REACH = 64  # tokens that a needle may move to follow the end of a sentence


@dataclass(frozen=True)
class Wrap:
    """Text before a document and after its question: from a chat template, or nothing."""

    before: str = ""
    behind: str = " "
    bos: int | None = None


@dataclass(frozen=True)
class Needle:
    """A fact hidden in a document, and how it is asked for. Positions count from the document's
    first token."""

    kind: Kind
    wording: str
    depth: float
    span: range  #: the tokens of its value within the document
    tail: list[int]  #: question, the text after it, the answer's beginning, and the value
    opening: int  #: tokens of the tail before the answer's beginning
    answer: range  #: the value's tokens within the tail


@dataclass(frozen=True)
class Document:
    """Token ids of the text with its needles, and the needles, first to last."""

    ids: list[int]
    needles: tuple[Needle, ...]


class DocumentMaker:
    """Makes documents of one split from the token ids of a text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        text_ids: Sequence[int],
        split: Split,
        wrap: Wrap | None = None,
        kinds: Sequence[Kind] = KINDS,
    ):
        self._tokenizer, self._text, self._split = tokenizer, text_ids, split
        self._wrap, self._kinds = wrap or Wrap(), tuple(kinds)
        self._front = token_ids(self._tokenizer, self._wrap.before)
        if self._wrap.bos is not None and self._front[:1] != [self._wrap.bos]:
            self._front = [self._wrap.bos, *self._front]
        self._ends = [i for i, token in enumerate(text_ids, 1) if self._ends_sentence(token)]

    def make(self, seed: str, length: int, depths: Sequence[float]) -> Document:
        """A document of ``length`` tokens with its longest question and answer, a needle a depth
        (0: the text's beginning, 1: its end), ascending. The same for the same seed.

        Raises ``LS_RECALL_LENGTH`` where text or length are too short.
        """
        rng = random.Random(seed)
        worded = self._worded(rng, len(depths))
        tail = max(len(one.tail) for one in worded)
        room = length - len(self._front) - tail - sum(len(one.ids) for one in worded)
        if room < 8 * len(worded) or room > len(self._text):
            raise LockstepError(
                "LS_RECALL_LENGTH",
                f"expected a text of {max(room, 8 * len(worded))} tokens between the needles of a "
                f"document of {length}, got {len(self._text) if room > 0 else 'no space'}",
                "Give a longer text with --text or --data, or other lengths.",
                "lengths",
            )
        start = rng.randrange(len(self._text) - room + 1)
        ids, needles, last = list(self._front), [], start
        for depth, one in zip(depths, worded, strict=True):
            at = max(last, self._sentence_end(start + round(depth * room), start, start + room))
            ids += [*self._text[last:at], *one.ids]
            span = range(
                len(ids) - len(one.ids) + one.value.start,
                len(ids) - len(one.ids) + one.value.stop,
            )
            needles.append(
                Needle(one.kind, one.wording, depth, span, one.tail, one.opening, one.answer)
            )
            last = at
        return Document(ids + list(self._text[last : start + room]), tuple(needles))

    def _worded(self, rng: random.Random, count: int) -> list[_WordedNeedle]:
        """Needles of unlike keys; kinds and wordings in turn, from a random one on."""
        shuffled: list[Template] = []
        while len(shuffled) < count:
            by_kind = [
                rng.sample(of, len(of))
                for kind in rng.sample(self._kinds, len(self._kinds))
                if (of := [one for one in TEMPLATES[self._split] if one.kind == kind])
            ]
            deepest = max(map(len, by_kind))
            shuffled += [of[turn] for turn in range(deepest) for of in by_kind if turn < len(of)]
        keys: dict[str, None] = {}
        while len(keys) < count:
            keys[key(self._split, rng)] = None
        return [self._word(rng, one, name) for one, name in zip(shuffled, keys, strict=False)]

    def _word(self, rng: random.Random, template: Template, name: str) -> _WordedNeedle:
        said = value(template.kind, self._split, rng)
        question, lead = rng.choice(template.asked)
        before, behind = template.needle.split("{value}")
        before = f" {before.format(key=name)}"
        ids, span = self._located(before, said, behind)
        opening = f"\n\n{question.format(key=name)}{self._wrap.behind}"
        lead = opening + lead.format(key=name) + ("" if lead[-1] in '"`' else " ")
        tail, answer = self._located(lead, said, "")
        offsets = self._encoding(lead + said).offsets
        first = bisect_left([end for _, end in offsets], len(opening) + 1)
        return _WordedNeedle(template.kind, template.needle, ids, span, tail, first, answer)

    def _located(self, before: str, said: str, behind: str) -> tuple[list[int], range]:
        """Ids of a text, and which of them hold ``said``: spaces before it do not."""
        start, end = len(before), len(before) + len(said)
        encoding = self._encoding(before + said + behind)
        inside = [i for i, (s, e) in enumerate(encoding.offsets) if s < end and e > start]
        return encoding.ids, range(inside[0], inside[-1] + 1)

    def _encoding(self, text: str) -> Encoding:
        (encoding,) = encodings(self._tokenizer, [text], offsets=True)
        return encoding

    def _ends_sentence(self, token: int) -> bool:
        text = self._tokenizer.decode([token]).rstrip(" ")
        return text.endswith((".", "!", "?", "\n\n"))

    def _sentence_end(self, at: int, low: int, high: int) -> int:
        """The end of a sentence nearest to a place, or the place itself where none is near."""
        i = bisect_left(self._ends, at)
        near = [e for e in self._ends[max(0, i - 1) : i + 1] if low <= e <= high]
        best = min(near, key=lambda e: abs(e - at), default=at)
        return best if abs(best - at) <= REACH else at


@dataclass(frozen=True)
class _WordedNeedle:
    kind: Kind
    wording: str
    ids: list[int]
    value: range
    tail: list[int]
    opening: int
    answer: range


def check_depths(depths: Sequence[float]) -> None:
    """Refuse depths that are not from 0 to 1, ascending (``LS_RECALL_DEPTHS``)."""
    inside = all(0 <= depth <= 1 for depth in depths)
    if depths and inside and all(a < b for a, b in pairwise(depths)):
        return
    raise LockstepError(
        "LS_RECALL_DEPTHS",
        f"expected depths from 0 (the text's beginning) to 1 (its end), ascending, got {depths}",
        "Give --depths 0,0.25,0.5,0.75,1.",
        "depths",
    )
