"""Rows of two answers: what they may look like, what is refused, and trainings on them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import make_tiny
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from faults import disk_calls, trainings
from faults.trainings import Case, Trainings, hashes, survive_event
from lockstep.chat.preferences import COUNTS, halves
from lockstep.errors import LockstepError
from lockstep.training import data
from test_training_chats import END, SIZE, STOP, TOKENIZER, rule
from training_run import SETTINGS, Run, same, weights

ANSWER = {"role": "assistant"}
QUESTION = {"role": "user", "content": "Hot?"}


def said(*texts: str) -> list[dict[str, str]]:
    return [{**ANSWER, "content": text} for text in texts]


def load(root: Path, rows: list[Any], **more: Any) -> data.Corpus:
    (root / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = more.pop("rule", rule())
    reading = data.ReadOptions(
        root / "cache", chat=given, preferences=True, format="preference", **more
    )
    return data.load(("a.jsonl",), root, TOKENIZER, SIZE, reading)


def shown(document: data.Document) -> list[tuple[str, str]]:
    """Of both sequences: the text, and what of it counts."""
    assert document.mask_N is not None
    at, out = halves(document.mask_N), []
    for part in (slice(0, at), slice(at, None)):
        ids, mask = document.ids_N[part], document.mask_N[part] & COUNTS
        out.append(
            tuple(
                TOKENIZER.decode(list(some), skip_special_tokens=False)
                for some in (ids, ids[mask > 0])
            )
        )
    return out


def test_the_shapes_of_rows(tmp_path: Path) -> None:
    whole = {"chosen": [QUESTION, *said("Yes.")], "rejected": [QUESTION, *said("No.")]}
    rows = [
        {"prompt": "Hot? ", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [QUESTION], "chosen": said("Yes."), "rejected": said("No.")},
        whole,
        {"prompt": "Hot?", **whole, "messages": whole["chosen"], "score_chosen": 3},
        {**whole, "prompt": None, "tools": None},
        {"chosen": None, "rejected": None},
    ]
    corpus = load(tmp_path, rows)
    chat = "<|im_start|>user\nHot?<|im_end|>\n<|im_start|>assistant\n"
    yes, no = (chat + f"{word}.<|im_end|>" for word in ("Yes", "No"))
    found = [shown(document) for document in corpus.documents]
    assert found[0] == [
        ("Hot? Yes.<|endoftext|>", "Yes.<|endoftext|>"),
        ("Hot? No.<|endoftext|>", "No.<|endoftext|>"),
    ]
    assert found[1:] == [[(yes, "Yes.<|im_end|>"), (no, "No.<|im_end|>")]] * 4
    assert tuple(int(corpus.documents[n].ids_N[-1]) for n in (0, 1)) == (END, STOP)
    assert corpus.entries[0].counts.empty == 1
    assert corpus.entries[0].format == "preference"


def test_answers_that_are_json_are_text_and_tables_hold_messages_as_json(tmp_path: Path) -> None:
    calls = [{"prompt": "f? ", "chosen": '[{"name": "f"}]', "rejected": no} for no in ("[]", "{}")]
    whole = {"chosen": [QUESTION, *said("Yes.")], "rejected": [QUESTION, *said("No.")]}
    written = {"prompt": "Hot?", **{name: json.dumps(value) for name, value in whole.items()}}
    load(tmp_path, [*calls, written])
    names = ("chosen", "rejected")
    texts = [[one[name] + "<|endoftext|>" for name in names] for one in (*calls, written)]
    with (tmp_path / "b.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(written))
        writer.writeheader()
        writer.writerows([*calls, written])
    parquet.write_table(arrow.Table.from_pylist([*calls, written]), tmp_path / "c.parquet")
    reading = data.ReadOptions(
        tmp_path / "cache", chat=rule(), preferences=True, format="preference"
    )
    for name in ("a.jsonl", "b.csv", "c.parquet"):
        corpus = data.load((name,), tmp_path, TOKENIZER, SIZE, reading)
        found = [[counted for _, counted in shown(one)] for one in corpus.documents]
        assert found[:2] == texts[:2], name
        assert found[2] == (
            texts[2] if name == "a.jsonl" else ["Yes.<|im_end|>", "No.<|im_end|>"]
        ), name


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "'chosen' and 'rejected' are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "the answer in 'rejected' is empty"),
        ({"prompt": "a", "chosen": "", "rejected": "b"}, "the answer in 'chosen' is empty"),
        (
            {"chosen": "b", "rejected": "c"},
            "'chosen' and 'rejected' are text, and there is no 'prompt' before them",
        ),
        ({"prompt": "a", "chosen": "b"}, "no field 'rejected', but 'prompt', 'chosen'"),
        ({"messages": [QUESTION]}, "no field 'chosen', but 'messages'"),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "expected text in 'chosen', got int"),
        (
            {"prompt": "a", "chosen": said("b"), "rejected": "c"},
            "expected messages in 'rejected' as in the other answer, got str",
        ),
        (
            {"prompt": [QUESTION], "chosen": said("b"), "rejected": said("")},
            "in 'rejected': message 2, of the assistant, is empty",
        ),
        (
            {"chosen": [QUESTION, *said("b")], "rejected": [QUESTION]},
            "the answer in 'rejected' is empty",
        ),
        (
            {"prompt": [QUESTION], "chosen": said("b"), "rejected": [QUESTION]},
            "no answer of the assistant in 'rejected'",
        ),
        (
            {"prompt": "Cold?"}
            | {name: [QUESTION, *said(name)] for name in ("chosen", "rejected")},
            "'prompt' is text that neither conversation begins with",
        ),
    ],
)  # fmt: skip
def test_bad_rows_are_named_by_their_line(row: Any, words: str, tmp_path: Path) -> None:
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(LockstepError) as refused:
        load(tmp_path, [good, row, good])
    assert refused.value.code == "LS_TRAIN_BROKEN"
    assert f"a.jsonl, got 1 broken line (line 2: {words}" in refused.value.message
    corpus = load(tmp_path, [good, row, good], skip_broken=True)
    assert len(corpus.documents) == 2
    assert "1 broken (line 2: " in corpus.skipped[0][1]


def test_the_same_tokens_and_what_is_too_long(tmp_path: Path) -> None:
    trimmed = make_tiny.CHAT.replace("message['content']", "message['content'].strip()")
    row = {"prompt": [QUESTION], "chosen": said("b"), "rejected": said("b ")}
    with pytest.raises(LockstepError, match=r"line 1: 'chosen' and 'rejected' are the same tokens"):
        load(tmp_path, [row], rule=rule(trimmed))
    rows = [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c" * 30},
    ]
    corpus = load(tmp_path, rows, rule=rule(most=20))
    assert len(corpus.documents) == 1 and corpus.entries[0].counts.long == 1
    with pytest.raises(LockstepError, match=r"line 2: in 'rejected': 32 tokens, and a sequence"):
        load(tmp_path, rows, rule=rule(most=20, refuse=True))


def test_rows_and_training_must_fit(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    reading = data.ReadOptions(tmp_path / "cache", chat=rule())
    with pytest.raises(LockstepError) as refused:
        data.load(("p.jsonl",), tmp_path, TOKENIZER, SIZE, reading)
    assert refused.value.code == "LS_TRAIN_FORMAT"
    assert "got preference in" in refused.value.message
    assert "training.dpo" in str(refused.value.fix)


def prefer(folder: Path) -> None:
    """48 rows: of two answers the polite one is better."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Where is house {n} of this long street?"}],
            "chosen": said(f"Please go on to house {n}."),
            "rejected": said(f"Go on to {n}, you."),
        }
        for n in range(48)
    ]
    (folder / "prefer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


DPO: dict[str, Any] = {
    "data": ["prefer.jsonl"],
    "dpo": {"beta": 0.5, "lengthNormalized": False},
    "sequence": 128,
    "heldOut": 0.2,
    "steps": 8,
}
LORA = {"rank": 4, "alpha": 8.0, "modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize("lora", [None, LORA])
def test_margins_rise_and_a_resumption_comes_to_the_same(
    lora: Any, home: Path, tmp_path: Path
) -> None:
    prefer(home)
    more = {**DPO, "lora": lora, "trainable": "all" if lora is None else []}
    more["texts"] = {**SETTINGS["texts"], "cache": str(tmp_path / "cache")}
    rate = {"learningRate": 3e-3 if lora is None else 1e-2}
    run = Run(home, tmp_path / "whole", **more, **rate)
    before, after = run.named("score")
    # The model is its own reference: nothing is gained yet.
    assert abs(before["loss"] - np.log(2)) < 1e-5 and abs(before["margin"]) < 1e-4
    assert after["loss"] < before["loss"] - 0.1 and after["margin"] > 0.3
    assert after["accuracy"] > 0.9 and after["targets"] == before["targets"] > 2
    first, *_, last = run.named("step")
    assert abs(first["loss"] - np.log(2)) < 1e-4 and last["loss"] < first["loss"] - 0.1
    assert run.result["margin"] > 0.3 and run.result["accuracy"] > 0.9
    computed = run.training.train_state.objective.reference.computed
    assert 0 < computed <= 48
    # Found on disk by every later training of this model, resumptions too.
    Run(home, tmp_path / "out", stop_after=3, **more, **rate)
    resumed = Run(home, tmp_path / "out", resume=True, **more, **rate)
    assert resumed.training.train_state.objective.reference.computed == 0
    assert same(tmp_path / "whole", tmp_path / "out")
    assert resumed.result["margin"] == run.result["margin"]
    # Without that file the model of the start is run again, not the one trained so far.
    for file in (tmp_path / "cache" / "reference").rglob("*.bin"):
        file.write_bytes(file.read_bytes()[:-7])
    Run(home, tmp_path / "torn", stop_after=3, **more, **rate)
    for file in (tmp_path / "cache" / "reference").rglob("*.bin"):
        file.unlink()
    again = Run(home, tmp_path / "torn", resume=True, **more, **rate)
    assert again.training.train_state.objective.reference.computed > 0
    # Rows run in other company, so the last bits may differ.
    for name, weight in weights(tmp_path / "torn").items():
        assert torch.allclose(weight, weights(tmp_path / "whole")[name], atol=1e-4), name


def test_normalized_by_length(home: Path, tmp_path: Path) -> None:
    prefer(home)
    dpo = {"beta": 5.0, "lengthNormalized": True}
    run = Run(home, tmp_path / "out", **{**DPO, "dpo": dpo, "steps": 6})
    assert run.losses[-1] < run.losses[0] - 0.1
    card = (tmp_path / "out" / "README.md").read_text()
    assert "beta 5, log-probabilities averaged over the tokens of an answer" in card


@pytest.mark.skipif(not disk_calls.supported(), reason="watches system calls of Linux on x86-64")
def test_a_training_killed_at_a_step_comes_to_the_same(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    home = trainings.home(tmp_path / "home")
    prefer(home)
    more = {name: DPO[name] for name in ("data", "dpo", "sequence")}
    made = Trainings(home, tmp_path / "run", Case("dpo", more=more), SETTINGS)
    made.clear()
    made.finish()
    whole = hashes(made.folder)
    for event in (1, 4):  # the first step, and the second with its checkpoint before
        survived = survive_event(made, whole, event)
        assert survived.well, survived
