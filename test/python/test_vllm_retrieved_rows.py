"""What vLLM's layers keep of a boundary's choice, where heads retrieve unlike numbers of rows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lockstep.contract.spec import Spec
from lockstep.vllm.retrieved_rows import RetrievedRows, in_pool, in_tokens
from lockstep.vllm.verify import _Watch

CPU = torch.device("cpu")
SPEC = Spec(
    max=8, carry=2, sinks=4, retrieval_size=3, recipe="blocks",
    retrieval_layers=(0,), long_heads=((0, 1),), block=3,
)  # fmt: skip
#: Of three rows the second head has two.
UNEVEN = torch.tensor([[0, 4, 5], [-1, 2, 3]])


def bucket(blocks: list[int], here: list[int]) -> Any:
    return SimpleNamespace(
        retrieved_block=np.array(blocks),
        retrieved_here=np.array(here),
        retrieved_block_n=torch.tensor(blocks),
        retrieved_here_n=torch.tensor(here),
    )


def closing(block: int, last: bool = True) -> Any:
    return SimpleNamespace(block=block, last=last)


def test_positions_of_tokens_and_of_the_pool() -> None:
    assert in_tokens(UNEVEN, 4, 3).tolist() == [[4, 8, 9], [-1, 6, 7]]
    assert in_tokens(UNEVEN, 4, 5).tolist() == [[-1, -1, 4, 8, 9], [-1, -1, -1, 6, 7]]
    assert in_pool(in_tokens(UNEVEN, 4, 5), 4) == [[0, 4, 5], [2, 3]]


def test_a_choice_is_seen_in_its_own_step_and_kept_for_later_ones() -> None:
    retrieved = RetrievedRows(5, 2, SPEC, CPU)
    even, uneven = torch.ones(2, 3, dtype=torch.int32), in_tokens(UNEVEN, 4, 3)
    now, has = retrieved.seen(bucket([3, 0], [1, -1]), [even, uneven])
    assert has and torch.equal(now[0], uneven) and not now[1].any()
    # The second closing of block 3 is the one that stays.
    retrieved.keep([closing(3, last=False), closing(3), closing(2)], [even, uneven, even])
    later, has = retrieved.seen(bucket([2, 3], [-1, -1]), [])
    assert has and torch.equal(later, torch.stack((even, uneven)))
    _, has = retrieved.seen(bucket([2, 0], [-1, -1]), [uneven])
    assert not has


def test_a_verification_puts_the_trainers_choice_in_place() -> None:
    """Its heads may have other numbers of rows than vLLM's own choice of the same boundary."""
    model: Any = SimpleNamespace(segments=SimpleNamespace(spec=SPEC, observer=None))
    trainers = [[0, 1, 2], [3]]
    told = {"at": 20, "layers": [{"layer": 0, "positions": trainers}]}
    watch = _Watch(model, [told])
    own = in_tokens(UNEVEN, SPEC.sinks, 3)
    end: Any = SimpleNamespace(end=20)
    assert watch.replace_retrieved(0, end, own.clone()).tolist() == [[4, 5, 6], [-1, -1, 7]]
    assert watch.replace_retrieved(1, end, own.clone()).tolist() == own.tolist()
    layers = [{"layer": layer, "positions": [[0, 4, 5], [2, 3]]} for layer in (0, 1)]
    assert watch.retrieved() == [{"at": 20, "layers": layers}]


def test_a_choice_of_more_rows_than_there_is_room_for_stays() -> None:
    model: Any = SimpleNamespace(segments=SimpleNamespace(spec=SPEC, observer=None))
    told = {"at": 20, "layers": [{"layer": 0, "positions": [[0, 1, 2, 3], [4, 5, 6, 7]]}]}
    own = in_tokens(UNEVEN, SPEC.sinks, 3)
    end: Any = SimpleNamespace(end=20)
    assert _Watch(model, [told]).replace_retrieved(0, end, own.clone()).tolist() == own.tolist()


def test_a_block_that_is_used_again_forgets() -> None:
    retrieved = RetrievedRows(5, 2, SPEC, CPU)
    even = torch.ones(2, 3, dtype=torch.int32)
    retrieved.keep([closing(3)], [in_tokens(UNEVEN, 4, 3)])
    retrieved.keep([closing(3)], [even])
    kept, has = retrieved.seen(bucket([3], [-1]), [])
    assert not has and torch.equal(kept[0], even)
