"""Recall of one set of weights under contracts that differ in one thing each.

    for again in 0 8 64; do RECALL_AGAIN=$again node dist/cli/main.js attach \\
        .lockstep/models/smollm2-135m-instruct --config bench/recall/contract.config.ts \\
        --out .lockstep/runs/recall-$again --no-probe --force; done
    node dist/cli/main.js attach .lockstep/models/smollm2-135m-instruct \\
        --config bench/training/base/lockstep.config.ts --out .lockstep/runs/recall-old \\
        --no-probe --force
    PYTHONPATH=python .venv/bin/python bench/recall/windows.py --length 2048 --documents 8

Answers go to ``raw/windows-LENGTH.jsonl``, a line a document and setting; the same command goes on
with what is missing. Documents are those of ``lockstep recall`` (seed 42, templates `eval`), asked
through the chat template; a needle at each of five depths (``--single``: at one of them, the next
document's at the next).
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
from lockstep.loader import load
from lockstep.needles.documents import DocumentMaker, Wrap
from lockstep.tokenizer.file import load_tokenizer
from transformers import AutoTokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from machine import header  # noqa: E402
from trials import trial  # noqa: E402

DEPTHS = [0, 0.25, 0.5, 0.75, 1]
SKIPPED, CHARACTERS = 60_000, 400_000
MILTON = ROOT / ".lockstep/texts/milton/paradiselost.txt"
RUNS = ROOT / ".lockstep" / "runs"
OLD = "the quickstart's until 2026-11-28"
#: What differs from `contract.config.ts`. heads: how many, the first by `scores` (a file here;
#: `profile.json`, copy mass, by default). run: the checkpoint. trial: a change of the operator
#: (`trials.py`).
SETTINGS: dict[str, dict[str, Any]] = {
    "27 heads": {},
    "27 heads, M = 128": {"carry": 128},
    "27 heads, M = 512": {"carry": 512},
    "27 heads, M = 128, W = 8": {"carry": 128, "window": 8},
    "27 heads, M = 128, W = 64": {"carry": 128, "window": 64},
    "27 heads, M = 128, B = 16": {"carry": 128, "block": 16},
    "27 heads, M = 128, R = 1,024": {"carry": 128, "retrieval_size": 1024},
    "27 heads, M = 128, R = all": {"carry": 128, "retrieval_size": 1 << 14},
    "45 heads, M = 128": {"carry": 128, "heads": 45},
    "90 heads, M = 128": {"carry": 128, "heads": 90},
    "90 heads": {"heads": 90},
    "90 heads, M = 128, R = all": {"carry": 128, "heads": 90, "retrieval_size": 1 << 14},
    "27 heads, true distances": {"trial": "true distances"},
    "27 heads, true distances, means of the rest": {"trial": "means"},
    "90 heads, true distances": {"heads": 90, "trial": "true distances"},
    "90 heads, true distances, means of the rest": {"heads": 90, "trial": "means"},
    "27 heads by gates": {"heads": 27, "scores": "gates.json"},
    "27 heads by gates, R = all": {
        "heads": 27,
        "scores": "gates.json",
        "retrieval_size": 1 << 14,
    },
    "27 heads by gates, true distances, means of the rest": {
        "heads": 27,
        "scores": "gates.json",
        "trial": "means",
    },
    "27 heads, a cut each 8 tokens of the answer": {"run": "recall-8"},
    "27 heads, turns({ again: 64 })": {"run": "recall-64"},
    OLD: {"run": "recall-old"},
}
FULL = "full attention"
PLAIN = "recall-0"


def changes(setting: dict[str, Any]) -> dict[str, Any]:
    """Fields of the spec that a setting has of its own."""
    ours = ("heads", "scores", "run", "trial")
    out = {name: value for name, value in setting.items() if name not in ours}
    if count := setting.get("heads"):
        file = HERE / setting.get("scores", "profile.json")
        scores = json.loads(file.read_text())["scores"]
        order = sorted(((s, layer, h) for layer, of in enumerate(scores) for h, s in enumerate(of)))
        of = order[-count:]
        long = [tuple(sorted(h for _, at, h in of if at == layer)) for layer in range(len(scores))]
        out |= {"long_heads": tuple(long)}
        out |= {"retrieval_layers": tuple(at for at, heads in enumerate(long) if heads)}
    return out


def wrap_of(folder: Path, bos: int | None) -> Wrap:
    """What the chat template puts around a user's message."""
    mark, chat = "\ue000", AutoTokenizer.from_pretrained(folder)
    text = chat.apply_chat_template(
        [{"role": "user", "content": mark}], add_generation_prompt=True, tokenize=False
    )
    before, behind = text.split(mark)
    return Wrap(before, behind, bos)


def eval_maker(bos: int | None, text: Path = MILTON) -> DocumentMaker:
    """Documents of the split `eval` in a text, asked through the chat template."""
    tokenizer = load_tokenizer(RUNS / PLAIN)
    part = text.read_text("utf-8")[SKIPPED : SKIPPED + CHARACTERS]
    ids = tokenizer.encode(part, add_special_tokens=False).ids
    return DocumentMaker(tokenizer, ids, "eval", wrap_of(RUNS / PLAIN, bos))


def main() -> None:
    take = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    take.add_argument("--length", type=int, default=2048)
    take.add_argument("--documents", type=int, default=4)
    take.add_argument("--settings", nargs="*", default=[FULL, *SETTINGS])
    take.add_argument("--single", action="store_true", help="one needle a document, not five")
    take.add_argument("--text", type=Path, default=MILTON)
    asked = take.parse_args()
    torch.set_num_threads(1)
    name = f"single-{asked.length}" if asked.single else f"windows-{asked.length}"
    out = HERE / "raw" / f"{name}.jsonl"
    out.parent.mkdir(exist_ok=True)
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    have = {(one["document"], one["setting"]) for one in lines}
    runs = {SETTINGS[name].get("run", PLAIN) for name in asked.settings if name != FULL} | {PLAIN}
    loaded = {name: load(RUNS / name) for name in sorted(runs)}
    first = loaded[PLAIN]
    maker = eval_maker(first.contract.document["tokenizer"]["bos"], asked.text)
    command = f"python bench/recall/{Path(__file__).name} --length {asked.length}"
    facts = header(command + (" --single" if asked.single else ""))
    for index in range(asked.documents):
        depths = [DEPTHS[index % len(DEPTHS)]] if asked.single else DEPTHS
        document = maker.make(f"42/{asked.length}/{index}", asked.length, depths)
        for name in asked.settings:
            if (index, name) in have:
                continue
            heads = 0
            if name == FULL:
                found = ask.full_attention(first, document)
            else:
                base = loaded[SETTINGS[name].get("run", PLAIN)]
                spec = dataclasses.replace(base.spec, **changes(SETTINGS[name]))
                model = Model(base.module, spec, base.contract)
                with trial(SETTINGS[name].get("trial")):
                    found = ask.segmented(model, document)
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
