"""Wordings and words of needles, in three splits that share nothing.

`profile` chooses heads, `train` trains, `eval` judges: a model, or a choice of heads, that knows
one wording only is found out. A needle says one value of one key; ``{key}`` and ``{value}`` are
filled in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Split = Literal["profile", "train", "eval"]
Kind = Literal["number", "name", "identifier", "sentence"]
KINDS: tuple[Kind, ...] = ("number", "name", "identifier", "sentence")


@dataclass(frozen=True)
class Template:
    """A needle, and the ways to ask for its value: (question, beginning of the answer) each."""

    kind: Kind
    needle: str
    asked: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Words:
    """What keys and values of a split are made of."""

    adjectives: tuple[str, ...]
    nouns: tuple[str, ...]
    first: tuple[str, ...]  # names of persons
    last: tuple[str, ...]
    verbs: tuple[str, ...]  # of identifiers
    things: tuple[str, ...]
    does: tuple[str, ...]  # what a noun does in a sentence
    where: tuple[str, ...]


def _template(kind: Kind, needle: str, *asked: tuple[str, str]) -> Template:
    return Template(kind, needle, asked)


TEMPLATES: Mapping[Split, tuple[Template, ...]] = MappingProxyType(
    {
        "profile": (
            _template(
                "number",
                "The access code of the {key} is {value}.",
                ("Which access code does the {key} have?", "The access code of the {key} is"),
                ("How does one open the {key}?", "One opens the {key} with the access code"),
            ),
            _template(
                "number",
                "In the register, the {key} is entered under {value}.",
                ("Where is the {key} entered?", "The {key} is entered under"),
                ("Give the entry of the {key} in the register.", "The entry is"),
            ),
            _template(
                "name",
                "The {key} belongs to {value}.",
                ("Who owns the {key}?", "The {key} belongs to"),
                ("To whom does the {key} belong?", "It belongs to"),
            ),
            _template(
                "name",
                "The keeper of the {key} was called {value}.",
                ("What was the keeper of the {key} called?", "The keeper was called"),
                ("Name the keeper of the {key}.", "The keeper of the {key} was"),
            ),
            _template(
                "identifier",
                "In the program, the {key} is stored in the variable `{value}`.",
                ("Which variable stores the {key}?", "The variable is called `"),
                ("Where does the program store the {key}?", "The program stores it in `"),
            ),
            _template(
                "sentence",
                'On the {key} someone had written: "{value}".',
                ("What was written on the {key}?", 'On the {key} was written: "'),
                ("Repeat the words on the {key}.", 'The words on the {key} are: "'),
            ),
        ),
        "train": (
            _template(
                "number",
                "Please note that the {key} weighs {value} grams.",
                ("How many grams does the {key} weigh?", "In grams, the {key} weighs"),
                ("What is the weight of the {key}?", "The weight of the {key} in grams is"),
            ),
            _template(
                "number",
                "The {key} was built with exactly {value} stones.",
                ("How many stones has the {key}?", "The stones of the {key} number"),
                ("Of how many stones is the {key} built?", "The {key} is built of"),
            ),
            _template(
                "name",
                "It was {value} who found the {key}.",
                ("Who found the {key}?", "The {key} was found by"),
                ("Name the finder of the {key}.", "The finder of the {key} is"),
            ),
            _template(
                "name",
                "They gave the {key} as a present to {value}.",
                ("Who was given the {key}?", "The {key} was given to"),
                ("Who got the {key} as a present?", "The present went to"),
            ),
            _template(
                "identifier",
                "To update the {key}, call the function `{value}`.",
                ("Which function updates the {key}?", "The {key} is updated by the function `"),
                ("How is the {key} updated?", "To update it, call `"),
            ),
            _template(
                "sentence",
                'The letter about the {key} ended with the words "{value}".',
                ("How did the letter about the {key} end?", 'The letter ended with the words "'),
                ("Quote the end of the letter about the {key}.", 'Its end is "'),
            ),
        ),
        "eval": (
            _template(
                "number",
                "One of the special magic numbers for the {key} is: {value}.",
                (
                    "What is the special magic number for the {key} mentioned in the text?",
                    "The special magic number for the {key} mentioned in the text is:",
                ),
                (
                    "Which special magic number goes with the {key}?",
                    "With the {key} goes the special magic number",
                ),
            ),
            _template(
                "number",
                "The treasure of the {key} counts {value} coins.",
                ("How large is the treasure of the {key}?", "The treasure of the {key} counts"),
                (
                    "How many coins does the {key} hide?",
                    "The number of coins in the treasure of the {key} is",
                ),
            ),
            _template(
                "name",
                "The guardian of the {key} is {value}.",
                ("Who guards the {key}?", "The guardian of the {key} is"),
                ("Who is the guardian of the {key}?", "It is"),
            ),
            _template(
                "name",
                "Long ago, the {key} was painted by {value}.",
                ("Who painted the {key}?", "The {key} was painted by"),
                ("By whom was the {key} painted?", "It was painted by"),
            ),
            _template(
                "identifier",
                "The field of the record that counts the {key} is named `{value}`.",
                ("Which field counts the {key}?", "The field is named `"),
                ("How is the field named that counts the {key}?", "The field for the {key} is `"),
            ),
            _template(
                "sentence",
                'The motto of the {key} reads: "{value}".',
                ("What is the motto of the {key}?", 'The motto of the {key} reads: "'),
                ("Which motto has the {key}?", 'Its motto is: "'),
            ),
        ),
    }
)


def _words(*lists: str) -> Words:
    """Each list in one string, its words or phrases between bars."""
    return Words(*(tuple(one.split("|")) for one in lists))


WORDS: Mapping[Split, Words] = MappingProxyType(
    {
        "profile": _words(
            "narrow|golden|silent|early|distant|broken|heavy|polite",
            "bridge|sparrow|kettle|orchard|engine|castle|pencil|valley",
            "Edda|Ruben|Malina|Anton|Sabine|Oskar|Wilma|Tobias",
            "Marwick|Tollner|Havers|Quint|Osgood|Brandel|Pellow|Ashby",
            "parse|merge|fetch|count|lock|sort",
            "queue|header|frame|token|ledger|socket",
            "waits|sings|rests|turns|burns|grows",
            "behind the mill|under the stairs|beyond the gate|near the well",
        ),
        "train": _words(
            "clever|dusty|famous|lonely|modern|purple|simple|wooden",
            "basket|candle|dragon|hammer|island|ladder|mirror|saddle",
            "Clara|Henrik|Paula|Viktor|Greta|Linus|Nadia|Emil",
            "Farrow|Kessler|Dunmore|Vance|Holt|Lindqvist|Moreau|Stroud",
            "load|split|check|write|send|clear",
            "buffer|column|handle|packet|record|timer",
            "sleeps|falls|shines|moves|listens|hides",
            "above the roof|beside the road|inside the barn|along the shore",
        ),
        "eval": _words(
            "quiet|brave|amber|silver|hollow|gentle|rapid|ancient",
            "river|falcon|garden|lantern|harbor|meadow|anchor|violin",
            "Marta|Jonas|Irene|Felix|Helga|Bruno|Olga|Casper",
            "Whitlock|Brenner|Oakes|Sorensen|Tierney|Calloway|Drummond|Voss",
            "build|drop|scan|pack|trim|watch",
            "cursor|vertex|margin|bucket|script|signal",
            "dreams|climbs|wanders|glows|returns|trembles",
            "over the hills|before the dawn|across the ice|among the reeds",
        ),
    }
)


def key(split: Split, rng: random.Random) -> str:
    """An adjective and a noun: what a needle is about."""
    words = WORDS[split]
    return f"{rng.choice(words.adjectives)} {rng.choice(words.nouns)}"


def value(kind: Kind, split: Split, rng: random.Random) -> str:
    """What has to be recalled: seven digits, two names, three words of code, or a sentence."""
    words = WORDS[split]
    if kind == "number":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "name":
        return f"{rng.choice(words.first)} {rng.choice(words.last)}"
    if kind == "identifier":
        return f"{rng.choice(words.verbs)}_{rng.choice(words.things)}_{rng.randint(10, 99)}"
    about = f"{rng.choice(words.adjectives)} {rng.choice(words.nouns)}"
    return f"The {about} {rng.choice(words.does)} {rng.choice(words.where)}"
