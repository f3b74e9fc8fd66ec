"""Of conversations the answers are learned and the questions are not, shown on the weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import lockstep
from lockstep.chat import read_template
from lockstep.chat.encode import Encoder, Rule
from lockstep.chat.messages import conversation
from lockstep.operator.model import Model
from lockstep.tokenizer.file import load_tokenizer
from training_run import SETTINGS, Run

#: The same in every row, so that it would be learned by heart where it counts.
QUESTION = "Quizzical zephyrs vex jumbled dwarfs, do they not?"
ANSWERS = ["Yes, they do.", "No, they do not.", "Yes, at night.", "No, not at night."]


def losses(directory: Path, answer: str) -> tuple[float, float]:
    """Nats a token of a conversation's prompt, and of its answer."""
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": answer},
    ]
    tokenizer = load_tokenizer(directory)
    end = tokenizer.token_to_id("<|endoftext|>")
    stop = tokenizer.token_to_id("<|im_end|>")
    rule = Rule(read_template(directory), ends=frozenset([end, stop]), end=end)
    with Encoder(tokenizer, rule) as encoder:
        (found,) = encoder.encode([conversation(messages)])
    model: Model = lockstep.load(directory)
    nll_T = model.nll(found.ids_T).numpy()
    mask_T = found.mask_T[1:]
    return float(nll_T[~mask_T].mean()), float(nll_T[mask_T].mean())


def test_questions_are_read_and_not_learned(home: Path, tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": ANSWERS[n % len(ANSWERS)]},
            ]
        }
        for n in range(24)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    data = tmp_path / "questions.jsonl"
    data.write_text(text, encoding="utf-8")
    prompt, answer = losses(home / "start", ANSWERS[0])
    found = {}
    for loss in ("assistant", "all"):
        texts = {**SETTINGS["texts"], "field": None, "loss": loss, "cache": str(tmp_path / loss)}
        Run(home, tmp_path / f"out-{loss}", data=[str(data)], texts=texts, steps=12)
        found[loss] = losses(tmp_path / f"out-{loss}", ANSWERS[0])
    # Both learn the answers; the questions are learned only where they count: otherwise the model
    # knows no more of them than one that guesses.
    guess = math.log(load_tokenizer(home / "start").get_vocab_size())
    assert max(found[name][1] for name in found) < min(answer, guess) - 1.0
    assert found["all"][0] < min(prompt, guess) - 1.0
    assert found["assistant"][0] > guess
