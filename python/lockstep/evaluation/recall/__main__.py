"""The job behind ``lockstep recall``: documents made once, every row asked, one summary.

``python -m lockstep.evaluation.recall`` reads ``{folder, documents, rows, threads, device, dtype,
summary}``: ``documents`` is ``{dir, text, skip, lengths, depths, samples, seed, bos, wrap}``, a row
``{name, dir, execution}`` (segmented or full), ``summary`` ``{rows, pairs}`` or None.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.bridge import job
from lockstep.needles.documents import Document, DocumentMaker, Wrap, check_depths
from lockstep.tokenizer.file import load_tokenizer
from lockstep.tokenizer.first_tokens import encode, read_part

from .answer_files import add_answers, answers, read_documents, write_documents
from .summary import summed

CHARACTERS = 1 << 20  # of the text that are read at most, unless one document needs more
PER_TOKEN = 8  # characters that a token has at most, on average


def run(description: dict[str, Any]) -> dict[str, Any]:
    """``{text: {tokens, repeats}}``, and the summary where it is asked for.

    Raises ``LS_RECALL_*``, ``LS_TEXT_*``, ``LS_EVAL_RESUME`` for another measurement's folder.
    """
    folder = Path(description["folder"])
    made = make(folder, description["documents"])
    if description["rows"]:
        ask_rows(folder, description)
    summary = description["summary"]
    return made | ({} if summary is None else summed(folder, summary["rows"], summary["pairs"]))


def make(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Write the documents; how much text there was, and how often a document holds it."""
    check_depths(asked["depths"])
    longest = max(asked["lengths"])
    text, _ = read_part(Path(asked["text"]), asked["skip"], max(CHARACTERS, PER_TOKEN * longest))
    ids = encode(asked["dir"], text)
    repeats = max(1, -(-longest // max(1, len(ids))))
    before, behind = asked["wrap"]
    wrap = Wrap(before, behind, asked["bos"])
    maker = DocumentMaker(load_tokenizer(asked["dir"]), ids * repeats, "eval", wrap)
    total = len(asked["lengths"]) * asked["samples"]
    documents: list[tuple[int, int, Document]] = []
    for length in asked["lengths"]:
        for index in range(asked["samples"]):
            job.check_cancelled()
            job.emit("progress", stage="making documents", done=len(documents), total=total)
            seed = f"{asked['seed']}/{length}/{index}"
            documents.append((length, index, maker.make(seed, length, asked["depths"])))
    write_documents(folder, documents)
    return {"text": {"tokens": len(ids), "repeats": repeats}}


def ask_rows(folder: Path, description: dict[str, Any]) -> None:
    """Every row over the documents that it has no answers to yet."""
    import torch

    from lockstep.loader import load

    from . import ask

    if description["threads"] is not None:
        torch.set_num_threads(description["threads"])
    rows: Sequence[dict[str, Any]] = description["rows"]
    documents = list(read_documents(folder))
    have = {
        row["name"]: {(one["length"], one["index"]) for one in answers(folder, row["name"])}
        for row in rows
    }
    # What is left costs time by its tokens.
    cost = {row["name"]: sum(n for n, i, _ in documents if (n, i) not in have[row["name"]])
            for row in rows}  # fmt: skip
    total, done = sum(cost.values()), 0
    for directory in dict.fromkeys(row["dir"] for row in rows if cost[row["name"]]):
        job.emit("progress", stage="loading", done=done, total=total)
        model = load(directory, device=description["device"], dtype=description["dtype"])
        for row in (row for row in rows if row["dir"] == directory):
            name = row["name"]
            way = ask.full_attention if row["execution"] == "full" else ask.segmented
            for length, index, document in documents:
                if (length, index) in have[name]:
                    continue
                job.check_cancelled()
                job.emit("progress", stage=f"{name}, {length} tokens", done=done, total=total)
                found = [one.as_dict() for one in way(model, document)]
                add_answers(folder, name, length, index, found)
                done += length
        del model


if __name__ == "__main__":
    job.main(run)
