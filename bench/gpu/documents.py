"""Sequences to train on and needles to find: functions of a seed, the same for every arm."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lockstep.training.data import TrainSequence

HERE = Path(__file__).resolve().parent
Encode = Callable[[str], list[int]]
SHARE = 0.1  # of the training sequences that are recall documents


@dataclass(frozen=True)
class Needle:
    """Token ids, the cut after the question, and where the answer's digits stand."""

    ids: list[int]
    question_end: int
    digits: range


def cuts(length: int, segment: int, ends: Sequence[int] = ()) -> list[int]:
    """A cut every ``segment`` tokens, and one after each question."""
    every = {*range(segment, length, segment), *(e for e in ends if 0 < e < length)}
    return sorted(every)


def needle(
    rng: random.Random, encode: Encode, text: Sequence[int], length: int, keys: int, kind: str
) -> Needle:
    """``keys`` numbers in ``length`` tokens of the text, one of them asked for at the end.

    kind: "train" or "evaluation", whose templates and words are apart.
    """
    words = json.loads((HERE / "templates.json").read_text("utf-8"))[kind]
    template = rng.choice(words["templates"])
    names = rng.sample([f"{a}-{n}" for a in words["adjectives"] for n in words["nouns"]], keys)
    facts = [{"name": name, "number": rng.randint(10**6, 10**7 - 1)} for name in names]
    asked = facts[0]
    stood = [encode(template["needle"].format(**fact)) for fact in facts]
    question, lead = (encode(template[p].format(**asked)) for p in ("question", "lead"))
    digits = encode(f" {asked['number']}")
    room = length - len(question) - len(lead) - len(digits) - sum(map(len, stood))
    if room < 1:
        raise ValueError(f"expected room for text beside the needles, got {length} tokens")
    start = rng.randrange(max(1, len(text) - room))
    hay = [int(token) for token in text[start : start + room]]
    depths = [int(rng.uniform(0.05, 0.95) * len(hay)) for _ in stood]
    ids, last = [], 0
    for depth, fact in sorted(zip(depths, stood, strict=True), key=lambda pair: pair[0]):
        ids += hay[last:depth] + fact
        last = depth
    ids += hay[last:] + question
    end = len(ids)
    ids += lead + digits
    # A token for the space before them is no part of what is recalled.
    return Needle(ids, end, range(len(ids) - len(encode(str(asked["number"]))), len(ids)))


def training(
    seed: int,
    encode: Encode,
    text: Sequence[int],
    *,
    steps: int,
    batch: int,
    length: int,
    segment: int,
) -> list[list[TrainSequence]]:
    """``steps`` batches; at least one sequence in ten, spread evenly, is a recall document."""
    rng = random.Random(1000 + seed)
    out: list[list[TrainSequence]] = []
    for step in range(steps):
        drawn = []
        for n in range(batch):
            number = step * batch + n
            if number % round(1 / SHARE) == 0:
                one = needle(rng, encode, text, length, rng.choice((1, 4)), "train")
                drawn.append(
                    TrainSequence(one.ids, cuts(len(one.ids), segment, [one.question_end]))
                )
                continue
            start = rng.randrange(max(1, len(text) - length))
            ids = [int(token) for token in text[start : start + length]]
            drawn.append(TrainSequence(ids, cuts(len(ids), segment)))
        out.append(drawn)
    return out


def needles(
    encode: Encode, text: Sequence[int], lengths: Sequence[int], samples: int
) -> dict[tuple[int, str], list[Needle]]:
    """(length, "single" or "four") -> samples; the same for every arm and seed."""
    rng = random.Random(7)
    return {
        (length, kind): [
            needle(rng, encode, text, length, keys, "evaluation") for _ in range(samples)
        ]
        for length in lengths
        for kind, keys in (("single", 1), ("four", 4))
    }
