"""A segmented checkpoint in transformers and by `lockstep.load`, with texts of several lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lockstep
import lockstep.transformers
import pytest
import torch
from lockstep import LockstepError
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)

TEXTS = (
    "the way in and the way out of it. The first. The second one, and so on. " * 3,
    "Short. And then the end",
    "a line\nanother line, longer than the first, and a third without any end " * 2,
)
#: Nothing ends: lengths are the test's.
GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@pytest.fixture(scope="module")
def model(made: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(made, dtype=torch.float64)


@pytest.fixture(scope="module")
def reference(made: Path) -> lockstep.Model:
    return lockstep.load(made, dtype="float64")


@pytest.fixture(scope="module")
def rows(made: Path) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(made)
    return [tokenizer(text).input_ids for text in TEXTS]


def padded(rows: list[list[int]], side: str = "left") -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        gap = longest - len(row)
        ids.append([0] * gap + row if side == "left" else row + [0] * gap)
        mask.append([0] * gap + [1] * len(row) if side == "left" else [1] * len(row) + [0] * gap)
    return torch.tensor(ids), torch.tensor(mask)


def furthest(logits_TV: torch.Tensor, reference: lockstep.Model, ids: list[int]) -> float:
    return float((logits_TV - reference.logits(ids)).abs().max())


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def relative(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in a)


def refused(call: Any, *args: Any, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        call(*args, **options)
    assert caught.value.fix and "expected" in caught.value.message
    return caught.value
