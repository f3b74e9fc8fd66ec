"""A needle in a text: does segmented execution find what full attention finds?

    PYTHONPATH=python python bench/recall/needle.py CHECKPOINT TEXT --samples 4 --tokens 1500

A number stands somewhere in a long text, and is asked for at its end. Cuts fall every S tokens and
after the question. Recalled: every digit is the most probable token, the ones before it given.
Heads are those of ``heads.json``, most copy mass first.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lockstep import Model, Spec, full, retrieval
from lockstep.loader import load_module
from lockstep.operator.model import Trace
from lockstep.tokenizer.file import load_tokenizer
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import header, write_raw  # noqa: E402

SKIPPED = 80_000  # characters of the text: its beginning is left out
NEEDLE_TAIL = 8  # the needle's last tokens; a head holds it with six of them


@dataclass(frozen=True)
class Sample:
    """Token ids, where the question ends, the answer's digits, and the needle's last tokens."""

    ids: list[int]
    question_end: int
    digits: range
    needle: range


def sample(
    rng: random.Random, encode: Callable[[str], list[int]], text: str, length: int
) -> Sample:
    words = json.loads((HERE / "templates.json").read_text("utf-8"))
    template = rng.choice(words["templates"])
    filled = {
        "name": f"{rng.choice(words['adjectives'])}-{rng.choice(words['nouns'])}",
        "number": rng.randint(10**6, 10**7 - 1),
    }
    needle, question, lead, answer = (
        encode(template[part].format(**filled)) for part in ("needle", "question", "lead", "answer")
    )
    start = rng.randint(0, max(0, len(text) - 6 * length))
    room = length - sum(map(len, (needle, question, lead, answer)))
    hay = encode(text[start : start + 6 * length])[:room]
    depth = int(rng.uniform(0.05, 0.6) * len(hay))
    ids = [*hay[:depth], *needle, *hay[depth:], *question, *lead, *answer]
    end = depth + len(needle)
    digits = range(len(ids) - len(encode(str(filled["number"]))), len(ids))
    return Sample(ids, len(ids) - len(lead) - len(answer), digits, range(end - NEEDLE_TAIL, end))


def spec_of(layers: int, heads: int, size: int, recipe: dict[str, Any], carry: int) -> Spec:
    order = json.loads((HERE / "heads.json").read_text("utf-8"))["heads"][:heads]
    long = tuple(tuple(h for at, h in order if at == layer) for layer in range(layers))
    pooled = tuple(layer for layer in range(layers) if long[layer])
    return Spec(512, carry, 4, size, retrieval_layers=pooled, long_heads=long, **recipe)


def judged(logits_TV: Tensor, one: Sample) -> dict[str, Any]:
    logp = logits_TV.double().log_softmax(-1)
    recalled = all(int(logits_TV[i - 1].argmax()) == one.ids[i] for i in one.digits)
    mean = sum(float(logp[i - 1, one.ids[i]]) for i in one.digits) / len(one.digits)
    return {"recalled": recalled, "logp": mean}


def holding(trace: Trace, one: Sample, sinks: int) -> float:
    """Share of the long heads that retrieved the needle at the cut after the question."""
    found = next(b for b in trace.boundaries if b.at == one.question_end)
    wanted = {n - sinks for n in one.needle}
    heads = [rows for p in found.positions.values() for rows in retrieval.listed(p)]
    return sum(len(wanted & set(rows)) >= NEEDLE_TAIL - 2 for rows in heads) / len(heads)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("checkpoint", type=Path)
    ask.add_argument("text", type=Path)
    for name, value in (("samples", 4), ("tokens", 1500), ("heads", 24), ("size", 512)):
        ask.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("carry", 128), ("window", 64), ("seed", 0), ("threads", 1)):
        ask.add_argument(f"--{name}", type=int, default=value)
    ask.add_argument("--out", help="name of the result in bench/raw")
    asked = ask.parse_args()
    torch.set_num_threads(asked.threads)
    module = load_module(asked.checkpoint)
    tokenizer = load_tokenizer(asked.checkpoint)
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids  # noqa: E731
    recipes: dict[str, dict[str, Any]] = {
        "topk, local heads carry": {"recipe": "topk"},
        "blocks, all heads carry": {
            "recipe": "blocks", "carry_heads": "all", "window": asked.window,
        },
    }  # fmt: skip
    layers = module.config.num_hidden_layers
    models = {
        name: Model.from_module(
            module, spec_of(layers, asked.heads, asked.size, recipe, asked.carry)
        )
        for name, recipe in recipes.items()
    }
    rng, text = random.Random(asked.seed), asked.text.read_text("utf-8")[SKIPPED:]
    rows: dict[str, list[dict[str, Any]]] = {"full attention": []} | {n: [] for n in models}
    for number in range(asked.samples):
        one = sample(rng, encode, text, asked.tokens)
        for name, model in models.items():
            if not rows["full attention"][number:]:
                rows["full attention"].append(judged(full.logits(model, one.ids), one))
            cuts = [*range(model.spec.max, one.question_end, model.spec.max), one.question_end]
            trace = model.trace(one.ids, cuts)
            logits = model.head(trace.hidden).detach()
            held = {"held": holding(trace, one, model.spec.sinks)}
            rows[name].append(judged(logits, one) | held)
        print(json.dumps({name: found[-1] for name, found in rows.items()}), flush=True)
    means = {
        name: {key: sum(float(row[key]) for row in found) / len(found) for key in found[0]}
        for name, found in rows.items()
    }
    print(json.dumps(means, indent=1))
    if asked.out is not None:
        shown = {k: v for k, v in vars(asked).items() if k not in ("checkpoint", "text", "out")}
        settings = shown | {"checkpoint": asked.checkpoint.name, "text": asked.text.name}
        facts = header(f"python bench/recall/{Path(__file__).name}")
        result = facts | {"settings": settings, "means": means, "samples": rows}
        write_raw(asked.out, result)


if __name__ == "__main__":
    main()
