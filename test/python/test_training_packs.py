"""Short documents that share the room of a sequence, and nothing else."""

# ruff: noqa: F811 (a fixture of another file)

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lockstep import Model
from lockstep.errors import LockstepError
from lockstep.operator.contexts import packed_spans
from lockstep.training.data import Cursor, Documents, Sequences, TrainSequence, slots
from lockstep.training.data.store import Tokens
from lockstep.training.distributed import Ranks
from lockstep.training.objective import Objective
from lockstep.training.validation import HeldOut
from parity import spec
from test_gradient import BOUND
from test_gradient_oracle import relative
from test_training_data_order import contract  # noqa: F401 (a fixture)
from tiny import text, tiny


def draw(
    documents: Documents,
    contract: Any,
    cursor: Cursor,
    n: int,
    rank: int = 0,
    world: int = 1,
    **o: Any,
) -> list[TrainSequence]:
    options = {"length": 16, "seed": 1, "bos": None} | o
    sequences = Sequences(documents, contract=contract, **options)
    try:
        return sequences.take(cursor, n, rank, world)
    finally:
        sequences.close()


LENGTHS = [5, 3, 9, 12, 2, 4, 7, 3, 16, 6, 2, 8]


@pytest.fixture
def made(tmp_path: Path) -> Documents:
    """Twelve conversations, whose every other token counts, and one text of 40 tokens."""
    ids, index, at = [], [], 0
    for d, n in enumerate(LENGTHS):
        ids += [100 * d + i for i in range(n)]
        index.append([0, at, n])
        at += n
    np.array(ids, dtype="<u2").tofile(tmp_path / "0.bin")
    (np.arange(at) % 2).astype("u1").tofile(tmp_path / "0.mask")
    np.arange(1500, 1540, dtype="<u2").tofile(tmp_path / "1.bin")
    files = [(str(tmp_path / f"{file}.bin"), "<u2") for file in (0, 1)]
    tokens = Tokens(files, [str(tmp_path / "0.mask"), None])
    names = ["0.jsonl", "1.txt"]
    return Documents(names, tokens, np.array([*index, [1, 0, 40]], dtype=np.int64), "digest")


def test_conversations_are_packed_and_texts_are_not(made: Documents, contract: Any) -> None:
    cursor, seen, alone = Cursor(), Counter(), 0
    packs: list[list[TrainSequence]] = []
    while cursor.epoch == 0:
        packs += slots(draw(made, contract, cursor, 1))
        if cursor.epoch == 0 and cursor.at >= Sequences(made, 16, 1, None, contract).count(0):
            break
    for pack in packs:
        assert sum(len(one.ids) for one in pack) <= 16
        for one in pack:
            seen.update(one.ids)
            if one.ids[0] >= 1500:
                assert len(pack) == 1 and one.mask is None and one.targets == len(one.ids) - 1
                alone += 1
            else:
                assert one.ids[0] % 100 == 0 and one.mask is not None
                assert one.targets == sum(one.mask[1:])
    assert alone >= 3 and max(len(pack) for pack in packs) > 1
    assert all(count == 1 for count in seen.values())
    assert sum(token < 1500 for token in seen) == sum(LENGTHS)
    # Neighbours that would both fit are together.
    chats = [pack for pack in packs if pack[0].ids[0] < 1500]
    assert len(chats) < len(LENGTHS) - 2


def test_packs_are_a_function_of_seed_and_cursor_for_every_rank(
    made: Documents,
    contract: Any,
) -> None:
    cursor = Cursor()
    whole = [draw(made, contract, cursor, 3, workers=1) for _ in range(4)]
    cursors = [Cursor(), Cursor()]
    for taken in whole:
        parts = [draw(made, contract, cursors[rank], 3, rank=rank, world=2) for rank in (0, 1)]
        packs = [slots(part) for part in parts]
        joined = [packs[0][0], packs[1][0], packs[0][1]]
        assert [one for pack in joined for one in pack] == taken
    half = Cursor()
    draw(made, contract, half, 3)
    assert draw(made, contract, half, 3) == whole[1]
    with pytest.raises(LockstepError, match="another way to read them"):
        draw(made, contract, half, 3, pack=False)


def test_everything_or_nothing_is_packed_where_asked(made: Documents, contract: Any) -> None:
    apart = draw(made, contract, Cursor(), 8, pack=False)
    assert len(apart) == 8 and all(one.slot is None for one in apart)
    together = draw(made, contract, Cursor(), 8, pack=True, length=40, bos=7)
    mixed = [pack for pack in slots(together) if any(one.mask is None for one in pack)]
    assert any(len(pack) > 1 for pack in mixed)
    for pack in slots(together):
        assert sum(len(one.ids) for one in pack) <= 40
        assert all(one.ids[0] == 7 and (one.mask is None or not one.mask[0]) for one in pack)


@pytest.mark.parametrize("truncation", [0, 1, 2])
def test_a_packed_step_is_that_of_separate_sequences(truncation: int) -> None:
    """Through the trainer's objective, with its largest pass: loss and gradient, divided once."""
    module = tiny(layers=2, seed=21)
    given = spec(module, carry=5, retrieval_layers=(1,), retrieval_size=4)
    objective = Objective(Model.from_module(module, given), "segmented", truncation, "float32")
    most = given.max
    rng = random.Random(4)
    docs = []
    for n, length in enumerate((7, 3, 30, 12, 2, 19, 5, 9)):
        ids = text(length, n)
        mask = [rng.random() < 0.5 for _ in ids] if n % 3 else None
        if mask is not None:
            mask[-1] = True
        cuts = list(range(min(4, most), length, min(4, most)))
        docs.append(TrainSequence(ids, cuts, mask, slot=n // 4))
    targets = sum(doc.targets for doc in docs)
    (total,) = objective.backward(docs, targets)
    packed = {n: w.grad.clone() for n, w in module.named_parameters()}
    module.zero_grad()
    alone = sum(
        objective.backward([TrainSequence(doc.ids, doc.boundaries, doc.mask)], targets)[0]
        for doc in docs
    )
    assert abs(total - alone) <= 1e-11 * abs(alone)
    assert relative(packed, {n: w.grad for n, w in module.named_parameters()}) <= BOUND
    lengths = [len(packed_spans(len(doc.ids), doc.boundaries)) for doc in docs]
    assert max(lengths) <= objective.passes(docs) <= sum(lengths)


def test_held_out_conversations_are_scored_where_they_count() -> None:
    module = tiny(layers=2, seed=22)
    model = Model.from_module(module, spec(module, carry=5))
    ids, other = text(14, 1), text(9, 2)
    mask = [at % 3 == 0 for at in range(14)]
    held_out = HeldOut([(ids, mask), (other, None)], Ranks())
    expected = model.nll(ids)[torch.tensor(mask[1:])].sum() + model.nll(other).sum()
    assert held_out.targets == sum(mask[1:]) + 8
    score = held_out.score(model, "segmented", lambda: False)
    assert score == pytest.approx(float(expected) / held_out.targets, rel=1e-12)
