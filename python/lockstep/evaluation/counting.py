"""How many tokens a prompt is, as the engines read it."""

from __future__ import annotations

from collections.abc import Callable

from lockstep.tokenizer.encoding import token_ids
from lockstep.tokenizer.file import load_tokenizer

#: Tokens of a text as the model reads it.
Count = Callable[[str], int]


def token_counter(folder: str, bos: int | None) -> Count:
    """Counts a text's tokens by the checkpoint's own tokenizer.json, with BOS where one is put in
    front: templates of some models write it themselves, and it is never there twice."""
    tokenizer = load_tokenizer(folder)

    def count(text: str) -> int:
        ids = token_ids(tokenizer, text)
        return len(ids) + (bos is not None and ids[:1] != [bos])

    return count
