"""What a measurement of recall says: by length and depth, by length, by head."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.evaluation import intervals
from lockstep.needles.templates import Kind

from .answer_files import answers, read_documents


def summed(folder: Path, rows: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """``{rows: {name: {cells, lengths, kinds, heads}}, differences}``.

    cells: ``{length, depth, samples, recalled, logp}``; lengths: the same over all depths, with the
    bounds of ``recalled``; kinds: by length and kind of value; heads: ``{layer, head, held}``, the
    share of far needles that a long head held (None: full attention). differences: ``{of, to,
    length, difference, low, high}`` of the shares recalled. Intervals are over documents, whose
    needles are not independent of each other.
    """
    about = {
        (length, index): [(one.depth, one.kind) for one in document.needles]
        for length, index, document in read_documents(folder)
    }
    found = {row: _found(folder, row, about) for row in rows}
    return {
        "rows": {row: _row(one) for row, one in found.items()},
        "differences": [
            {"of": of, "to": to, "length": length, **_difference(found[of], found[to], length)}
            for of, to in pairs
            for length in sorted({length for length, _ in about})
        ],
    }


Key = tuple[int, int]
Answer = dict[str, Any]


def _found(
    folder: Path, row: str, about: dict[Key, list[tuple[float, Kind]]]
) -> dict[Key, list[Answer]]:
    lines = {(one["length"], one["index"]): one["answers"] for one in answers(folder, row)}
    missing = [key for key in about if key not in lines]
    if missing:
        raise LockstepError(
            "LS_EVAL_ANSWERS",
            f"expected answers of {row} to every document, got none to {missing[0]}",
            "Run the same command again with the same --out.",
        )
    return {
        key: [
            one | {"depth": depth, "kind": kind}
            for one, (depth, kind) in zip(lines[key], asked, strict=True)
        ]
        for key, asked in about.items()
    }


def _row(found: dict[Key, list[Answer]]) -> dict[str, Any]:
    cells, kinds, lengths = defaultdict(list), defaultdict(list), defaultdict(list)
    for (length, _), asked in found.items():
        lengths[length].append(asked)
        for one in asked:
            cells[length, one["depth"]].append(one)
            kinds[length, one["kind"]].append(one)
    return {
        "cells": [{"length": n, "depth": d} | _mean(of) for (n, d), of in sorted(cells.items())],
        "lengths": [
            {"length": n} | _mean([one for asked in of for one in asked])
            | intervals.mean([_share(asked) for asked in of]).as_dict("recalled")
            for n, of in sorted(lengths.items())
        ],
        "kinds": [{"length": n, "kind": k} | _mean(of) for (n, k), of in sorted(kinds.items())],
        "heads": _heads([one for asked in found.values() for one in asked]),
    }  # fmt: skip


def _mean(asked: Sequence[Answer]) -> dict[str, Any]:
    logp = sum(one["logp"] for one in asked) / len(asked)
    return {"samples": len(asked), "recalled": _share(asked), "logp": logp}


def _share(asked: Sequence[Answer]) -> float:
    return sum(one["recalled"] for one in asked) / len(asked)


def _heads(asked: Sequence[Answer]) -> list[dict[str, Any]] | None:
    far = [one["held"] for one in asked if one["held"] is not None]
    if not far:
        return None
    count: dict[tuple[int, int], int] = defaultdict(int)
    for held in far:
        for layer, heads in held.items():
            for head in heads:
                count[int(layer), head] += 1
    return [
        {"layer": layer, "head": head, "held": n / len(far)}
        for (layer, head), n in sorted(count.items())
    ]


def _difference(
    of: dict[Key, list[Answer]], to: dict[Key, list[Answer]], length: int
) -> dict[str, Any]:
    gaps = [_share(of[key]) - _share(to[key]) for key in of if key[0] == length]
    return intervals.mean(gaps).as_dict("difference")
