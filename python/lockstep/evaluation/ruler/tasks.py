"""Which tasks there are and their sizes: scripts/synthetic.yaml and data/synthetic/constants.py.

Each template has the recipe's parts in its order: what to do, the text, the question, and the
beginning of the answer, which the model continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["words", "numbers", "uuids"]
Haystack = Literal["noise", "essay", "needle"]


@dataclass(frozen=True)
class Template:
    """Texts with ``{context}``, ``{query}`` and what else a task fills in."""

    task: str
    answer: str


@dataclass(frozen=True)
class Niah:
    """Needles in a haystack: ``keys`` of them with ``values`` each, ``queries`` keys asked for."""

    haystack: Haystack
    key: Kind = "words"
    value: Kind = "numbers"
    keys: int = 1
    values: int = 1
    queries: int = 1
    tokens: int = 128


@dataclass(frozen=True)
class Tracking:
    """Variables that hold one value over ``hops`` assignments."""

    hops: int = 4
    tokens: int = 30


@dataclass(frozen=True)
class CommonWords:
    """``words`` words that stand ``common`` times among others that stand ``rare`` times."""

    words: int = 10
    common: int = 30
    rare: int = 3
    tokens: int = 120


@dataclass(frozen=True)
class FrequentWords:
    """The ``words`` most frequent of made-up words; counts follow a zeta distribution (alpha 2)."""

    words: int = 3
    letters: int = 6
    tokens: int = 50


Task = Niah | Tracking | CommonWords | FrequentWords

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "niah_single_1": Niah("noise"),
        "niah_single_2": Niah("essay"),
        "niah_single_3": Niah("essay", value="uuids"),
        "niah_multikey_1": Niah("essay", keys=4),
        "niah_multikey_2": Niah("needle"),
        "niah_multikey_3": Niah("needle", key="uuids", value="uuids"),
        "niah_multivalue": Niah("essay", values=4),
        "niah_multiquery": Niah("essay", keys=4, queries=4),
        "vt": Tracking(),
        "cwe": CommonWords(),
        "fwe": FrequentWords(),
    }
)

NEEDLE = "Among the secret {kind}, that of {key} is: {value}."
NOISE = "Rain falls. Rivers run. The road is long. We walk on. And then we walk back."

# One value is asked for in the singular, several in the plural.
NIAH_ONE = Template(
    "A secret {kind} is hidden in the text below. Keep it in mind: a question about the {kind} "
    "follows.\n{context}\nWhat is the secret {kind} of {query} that the text above gives?",
    " The secret {kind} of {query} that the text above gives is",
)
NIAH_MANY = Template(
    "Some secret {kind} are hidden in the text below. Keep them in mind: a question about the "
    "{kind} follows.\n{context}\nWhat are all the secret {kind} of {query} that the text above "
    "gives?",
    " The secret {kind} of {query} that the text above gives are",
)
TRACKING = Template(
    "The text below assigns variables, one after another, in a chain. Keep the chain in mind.\n\n"
    "{context}\nQuestion: Which variables hold the value {query} in the text above? Find all.",
    " Answer: By the assignments in the text above, {count} variables hold the value {query}. They "
    "are: ",
)
COMMON = Template(
    "Here is a numbered list of words. Some of them occur more often than others. Keep in mind "
    "those that occur most often.\n{context}\nQuestion: Which 10 words occur most often in the "
    "list above?",
    " Answer: The 10 words that occur most often in the list are:",
)
FREQUENT = Template(
    "Here is a text in code. Count how often each coded word occurs, and find the three that occur "
    "most often. {context}\nQuestion: Leave out explanations and pay no heed to the dots '....'. "
    "Which three words occur most often in the coded text above?",
    " Answer: In the coded text above, the three words that occur most often are:",
)
