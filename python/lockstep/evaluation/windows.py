"""The sequences that perplexity is measured on, cut out of one or more texts."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.evaluation.write_once import write_once
from lockstep.tokenizer.first_tokens import encode, read_part

FILE = "windows.json"
MARGIN = 64  # tokens at the end of what was read that the text behind it may still change


def cut_windows(folder: Path, description: dict[str, Any]) -> dict[str, Any]:
    """Write ``windows.json`` into ``folder``, a list of ``{text, ids}``.

    description: ``{dir, texts, skip, lengths, windows, bos, exact}``.
    Returns ``{lengths, windows: [{text, tokens}], skipped, unused}``: the lengths that the texts
    can give and, unused, those that no window was taken from. A text without a token is an error.

    Lengths that no text is long enough for are an error (``LS_TEXT_SHORT``) where they were asked
    for (``exact``), and else left out. Windows do not overlap and take the texts in turn.
    """
    texts, lengths = description["texts"], sorted(set(description["lengths"]))
    if not texts or not lengths or lengths[0] < 2 or description["windows"] < 1:
        raise LockstepError(
            "LS_EVAL_LENGTHS",
            f"expected texts and lengths of at least 2 tokens, got {lengths}",
            "Name a text with --text, and lengths of 2 or more with --lengths.",
        )
    front = [] if description["bos"] is None else [description["bos"]]
    wanted = lengths[-1] * description["windows"]
    found = {text: _tokens(description, text, wanted) for text in texts}
    for text, ids in found.items():
        if not ids:
            behind = f" after character {description['skip']}" if description["skip"] else ""
            raise LockstepError(
                "LS_TEXT_SHORT",
                f"expected text in {text}{behind}, got none",
                "Leave it out.",
                "text",
            )
    longest = len(front) + max(len(ids) for ids in found.values())
    fitting = [length for length in lengths if length <= longest]
    if not fitting or (description["exact"] and fitting != lengths):
        raise LockstepError(
            "LS_TEXT_SHORT",
            f"expected a text of at least {lengths[-1] if description['exact'] else lengths[0]} "
            f"tokens, got {longest} in the longest of {len(texts)}",
            "Give a longer text with --text, or shorter --lengths.",
            "text",
        )
    windows = _windows(found, fitting[-1] - len(front), description["windows"], front)
    write_once(folder / FILE, json.dumps(windows))
    return {
        "lengths": fitting,
        "skipped": [length for length in lengths if length not in fitting],
        "unused": [text for text in found if all(w["text"] != text for w in windows)],
        "windows": [{"text": w["text"], "tokens": len(w["ids"])} for w in windows],
    }


def _tokens(description: dict[str, Any], text: str, wanted: int) -> list[int]:
    """Ids of the text, or of as much of its beginning as gives ``wanted`` of them."""
    for size in (8 * wanted * 2**doubling + 1024 for doubling in count()):
        part, whole = read_part(Path(text), description["skip"], size)
        ids = encode(description["dir"], part)
        if whole:
            return ids
        if len(ids) >= wanted + MARGIN:
            return ids[:-MARGIN]
    raise AssertionError


def _windows(
    found: dict[str, list[int]], size: int, wanted: int, front: list[int]
) -> list[dict[str, Any]]:
    """The first window of every text, then the second of every text, and so on."""
    out: list[dict[str, Any]] = []
    for at in count(0, size):
        fresh = [(text, ids) for text, ids in found.items() if at + size <= len(ids)]
        if not fresh:
            return out
        for text, ids in fresh:
            out.append({"text": text, "ids": front + ids[at : at + size]})
            if len(out) == wanted:
                return out
    raise AssertionError
