"""Recall of one set of weights under contracts that differ in one thing each.

    for align in 1 16; do RECALL_ALIGN=$align node dist/cli/main.js attach \\
        .lockstep/models/smollm2-135m-instruct --config bench/recall/contract.config.ts \\
        --out .lockstep/runs/recall-$align --no-probe --force; done
    PYTHONPATH=python .venv/bin/python bench/recall/windows.py --length 2048 --documents 4

Answers go to ``raw/windows-LENGTH.jsonl``, a line a document and setting; the same command goes on
with what is missing. Documents are those of ``lockstep recall`` (seed 42, templates `eval`), asked
through the chat template; a fact at each of five depths.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lockstep import Model
from lockstep.evaluation.recall import ask
from lockstep.facts.documents import Maker, Wrap
from lockstep.loader import load
from lockstep.tokenizer.file import load_tokenizer
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from machine import header  # noqa: E402

DEPTHS = [0, 0.25, 0.5, 0.75, 1]
SKIPPED, CHARACTERS = 60_000, 400_000
RUNS = ROOT / ".lockstep" / "runs"
#: Which contract, and what of it is another.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "W = 8": ("recall-1", {"window": 8}),
    "W = 16": ("recall-1", {"window": 16}),
    "W = 32": ("recall-1", {"window": 32}),
    "W = 64": ("recall-1", {"window": 64}),
    "W = 16, M = 256": ("recall-1", {"window": 16, "carry": 256}),
    "W = 16, long heads do not carry": ("recall-1", {"window": 16, "carry_heads": "local"}),
    "W = 16, align 16": ("recall-16", {"window": 16}),
    "W = 32, align 16": ("recall-16", {"window": 32}),
    "the quickstart's until 2026-11-28": ("quickstart-untrained", {}),
}
FULL = "full attention"


def wrap_of(folder: Path, bos: int | None) -> Wrap:
    """What the chat template puts around a user's message."""
    mark, chat = "\ue000", AutoTokenizer.from_pretrained(folder)
    text = chat.apply_chat_template(
        [{"role": "user", "content": mark}], add_generation_prompt=True, tokenize=False
    )
    before, behind = text.split(mark)
    return Wrap(before, behind, bos)


def main() -> None:
    take = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    take.add_argument("--length", type=int, default=2048)
    take.add_argument("--documents", type=int, default=4)
    take.add_argument("--settings", nargs="*", default=[FULL, *SETTINGS])
    take.add_argument("--text", type=Path, default=ROOT / ".lockstep/texts/milton/paradiselost.txt")
    asked = take.parse_args()
    torch.set_num_threads(1)
    out = HERE / "raw" / f"windows-{asked.length}.jsonl"
    out.parent.mkdir(exist_ok=True)
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    have = {(one["document"], one["setting"]) for one in lines}
    bases = {SETTINGS[name][0] for name in asked.settings if name != FULL} | {"recall-1"}
    loaded = {name: load(RUNS / name) for name in sorted(bases)}
    first = loaded["recall-1"]
    tokenizer = load_tokenizer(RUNS / "recall-1")
    text = asked.text.read_text("utf-8")[SKIPPED : SKIPPED + CHARACTERS]
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    wrap = wrap_of(RUNS / "recall-1", first.contract.document["tokenizer"]["bos"])
    maker = Maker(tokenizer, ids, "eval", wrap)
    facts = header(f"python bench/recall/{Path(__file__).name} --length {asked.length}")
    for index in range(asked.documents):
        document = maker.make(f"42/{asked.length}/{index}", asked.length, DEPTHS)
        for name in asked.settings:
            if (index, name) in have:
                continue
            heads = 0
            if name == FULL:
                found = ask.full_attention(first, document)
            else:
                base = loaded[SETTINGS[name][0]]
                spec = dataclasses.replace(base.spec, **SETTINGS[name][1])
                found = ask.segmented(Model(base.module, spec, base.contract), document)
                heads = sum(map(len, spec.long_heads))
            answers = [
                one.as_dict() | {"depth": needle.depth, "kind": needle.kind}
                for one, needle in zip(found, document.needles, strict=True)
            ]
            line = {"document": index, "setting": name, "long_heads": heads, "answers": answers}
            line |= facts
            with out.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(index, name, sum(one.recalled for one in found), flush=True)


if __name__ == "__main__":
    main()
