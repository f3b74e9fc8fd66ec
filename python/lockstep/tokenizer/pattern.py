"""Which patterns of a tokenizer.json may run: those that run in linear time.

Counterpart of src/tokenizer/pattern.ts, which explains the rule; a test has both judge the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RULES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "pattern_rules.json").read_text(encoding="utf-8")
)
ANCHORS = "bBAzZ"
CLASSES = "sSdDwWhHrntfvae"


class Refused(Exception):
    """Why a pattern is refused."""


@dataclass
class Item:
    nullable: bool
    unbounded: bool
    choices: int


def pattern_name(pattern: str) -> str:
    """How an operator names a pattern that is to be trusted."""
    return hashlib.sha256(pattern.encode("utf-8", "replace")).hexdigest()[:16]


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern may take more than time in proportion to the text; None where it cannot."""
    if pattern in RULES["patterns"].values():
        return None
    if len(pattern.encode("utf-16-le", "surrogatepass")) // 2 > RULES["patternCharacters"]:
        return f"it is longer than {RULES['patternCharacters']} characters"
    try:
        _judge(Parser(pattern).all())
    except Refused as error:
        return str(error)
    return None


def _judge(branches: list[tuple[str, list[Item]]]) -> None:
    spaces = False
    for text, items in branches:
        if text in RULES["spaces"]:
            spaces = True
        elif spaces and text != r"\s+":
            raise Refused(r"only \s+ may follow an alternative that goes back over spaces")
        else:
            at = next((i for i, item in enumerate(items) if item.unbounded), None)
            if at is not None and not all(item.nullable for item in items[at + 1 :]):
                raise Refused("something must follow a repetition without an upper bound")
            _product(items)
    if spaces and branches[-1][0] != r"\s+":
        raise Refused(r"an alternative goes back over spaces and none takes them at last (\s+)")


def _product(items: list[Item]) -> int:
    product = 1
    for item in items:
        product *= item.choices
    return _counted(product)


def _counted(choices: int) -> int:
    if choices > RULES["choices"]:
        raise Refused(f"it can match in more than {RULES['choices']} ways")
    return choices


class Parser:
    def __init__(self, pattern: str):
        self.text, self.at = pattern, 0

    def all(self) -> list[tuple[str, list[Item]]]:
        branches = self.branches(0)
        if self.at < len(self.text):
            raise Refused("a ) closes nothing")
        return branches

    def branches(self, depth: int) -> list[tuple[str, list[Item]]]:
        if depth > 4:
            raise Refused("its groups are nested too deeply")
        found = []
        while True:
            start, items = self.at, []
            while self.at < len(self.text) and self.peek() not in "|)":
                items.append(self.item(depth))
            found.append((self.text[start : self.at], items))
            if self.peek() != "|":
                return found
            self.at += 1

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def repeats(self) -> bool:
        return self.peek() != "" and self.peek() in "*+?{"

    def take(self) -> str:
        if self.at >= len(self.text):
            raise Refused("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def item(self, depth: int) -> Item:
        character = self.take()
        if character == "(":
            return self.group(depth)
        if character == "[":
            self.set()
        elif character == "\\":
            if self.escape():
                return self.fixed(1)
        elif character in "^$":
            return self.fixed(1)
        elif character in "*+?{}]":
            raise Refused(f"{character} is not allowed there")
        return self.quantified(1, True)

    def set(self) -> None:
        depth = 1
        while depth > 0:
            character = self.take()
            if character == "\\":
                self.take()
            elif character == "[":
                depth += 1
            elif character == "]":
                depth -= 1
                before = self.text[: self.at - 1]
                if before.endswith(("[", "[^")):
                    raise Refused("a class is empty")

    def escape(self) -> bool:
        letter = self.take()
        if letter in ANCHORS:
            return True
        if letter in "pP":
            if self.take() != "{":
                raise Refused("\\p has no {")
            self.brace()
        elif letter in "xu":
            if self.peek() == "{":
                self.brace()
            else:
                for _ in range(2 if letter == "x" else 4):
                    if not re.fullmatch("[0-9A-Fa-f]", self.take()):
                        raise Refused(f"\\{letter} has no digits")
        elif re.fullmatch("[A-Za-z0-9]", letter) and letter not in CLASSES:
            raise Refused(f"\\{letter} is not among what is understood")
        return False

    def brace(self) -> None:
        while self.take() != "}":
            pass

    def group(self, depth: int) -> Item:
        look = False
        if self.peek() == "?":
            openings = ("?:", "?i:", "?=", "?!", "?<=", "?<!")
            opening = next((o for o in openings if self.text.startswith(o, self.at)), None)
            if opening is None:
                raise Refused("a group is of a kind that is not understood")
            look = not opening.endswith(":")
            self.at += len(opening)
        branches = self.branches(depth + 1)
        if self.take() != ")":
            raise Refused("a group has no end")
        choices = 0
        for _, items in branches:
            if any(item.unbounded for item in items):
                raise Refused("a group repeats something without an upper bound")
            choices = _counted(choices + _product(items))
        return self.fixed(choices) if look else self.quantified(choices, False)

    def fixed(self, choices: int) -> Item:
        if self.repeats():
            raise Refused("something is repeated that has no width")
        return Item(False, False, choices)

    def quantified(self, choices: int, single: bool) -> Item:
        if not self.repeats():
            return Item(False, False, choices)
        sign = self.take()
        least, most = self.interval() if sign == "{" else self.sign(sign)
        if most is None:
            if not single:
                raise Refused("a group repeats without an upper bound")
            return Item(least == 0, True, _counted(choices))
        ways = most - least + 1
        if choices > 1:
            for _ in range(most):
                ways = _counted(ways * choices)
        return Item(least == 0, False, _counted(ways))

    def sign(self, sign: str) -> tuple[int, int | None]:
        if self.peek() in ("?", "+"):
            self.at += 1
        if self.repeats():
            raise Refused("a repetition is repeated")
        return {"?": (0, 1), "*": (0, None), "+": (1, None)}[sign]

    def interval(self) -> tuple[int, int | None]:
        inside = ""
        while self.peek() != "}":
            inside += self.take()
        self.at += 1
        found = re.fullmatch("([0-9]{0,4})(,?)([0-9]{0,4})", inside)
        if found is None or inside in ("", ","):
            raise Refused(f"{{{inside}}} is no interval")
        least = int(found[1] or 0)
        most = least if found[2] == "" else (int(found[3]) if found[3] else None)
        if most is not None and most < least:
            raise Refused(f"{{{inside}}} is no interval")
        if self.repeats():
            raise Refused("a repetition is repeated")
        return least, most
