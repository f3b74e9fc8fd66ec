"""What needles, lists and haystacks are made of."""

from __future__ import annotations

import random
import re
import string
import uuid
from functools import cache
from importlib import resources

from lockstep.errors import LockstepError
from lockstep.evaluation.ruler.tasks import Kind
from lockstep.install import install

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnprstvz"


@cache
def _list(name: str) -> tuple[str, ...]:
    """A word list of the package ``wonderwords``, the one that the recipe takes its words from."""
    try:
        text = (resources.files("wonderwords") / "assets" / f"{name}list.txt").read_text("utf-8")
    except ModuleNotFoundError as error:
        raise LockstepError(
            "LS_EVAL_PACKAGE",
            "expected the Python package wonderwords, got none",
            install("eval"),
        ) from error
    return tuple(dict.fromkeys(word for line in text.splitlines() if (word := line.strip())))


@cache
def english() -> tuple[str, ...]:
    """Nouns, adjectives and verbs, each once, in alphabetical order."""
    return tuple(sorted({*_list("noun"), *_list("adjective"), *_list("verb")}))


def draw(kind: Kind, rng: random.Random) -> str:
    """A key or a value: an adjective and a noun, a number of seven digits, or a UUID."""
    if kind == "words":
        return f"{rng.choice(_list('adjective'))}-{rng.choice(_list('noun'))}"
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def distinct(count: int, rng: random.Random) -> list[str]:
    """``count`` different words: English ones, and made-up ones where there are not as many.

    The recipe goes over to a longer English list there; ours is not shipped.
    """
    words = english()
    if count <= len(words):
        return rng.sample(words, count)
    out = dict.fromkeys(words)
    while len(out) < count:
        syllables = (rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 4)))
        out["".join(syllables)] = None
    return rng.sample(tuple(out), count)


def coded(count: int, letters: int, rng: random.Random) -> list[str]:
    """``count`` different words of random lower-case letters."""
    out: dict[str, None] = {}
    while len(out) < count:
        out["".join(rng.choices(string.ascii_lowercase, k=letters))] = None
    return list(out)


def names(count: int, letters: int, rng: random.Random) -> list[str]:
    """``count`` different variable names of random capital letters."""
    return [word.upper() for word in coded(count, letters, rng)]


def sentences(text: str) -> list[str]:
    """Sentences of a text: they end with a mark and white space (the recipe has NLTK's rules)."""
    return re.split(r"(?<=[.!?])\s+", text.strip()) if text.strip() else []
