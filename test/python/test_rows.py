"""Growing rows, and states that an engine holds on to: what forks share, and what it costs."""

from __future__ import annotations

import tiny
import torch
from lockstep import Model, Spec
from lockstep.engine.state_snapshots import StateSnapshots
from lockstep.operator.kv_buffer import KVBuffer


def rows(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers).reshape(1, -1, 1)


def held(one: KVBuffer) -> list[float]:
    return one.view().flatten().tolist()


def test_the_first_fork_to_append_keeps_the_buffer_and_the_others_copy() -> None:
    one = KVBuffer()
    one.append(rows(1, 2), reserve=8)
    fork, third = one.fork(), one.fork()
    fork.append(rows(3))
    one.append(rows(4, 5))
    third.append(rows(6))
    fork.append(rows(7))
    assert [held(x) for x in (one, fork, third)] == [[1, 2, 4, 5], [1, 2, 3, 7], [1, 2, 6]]
    assert len({x.view().data_ptr() for x in (one, fork, third)}) == 3


def test_a_fork_that_nobody_overtook_appends_in_place() -> None:
    one = KVBuffer()
    one.append(rows(1, 2), reserve=8)
    fork = one.fork()
    one.append(rows(3))
    assert one.view().data_ptr() == fork.view().data_ptr()
    assert (held(one), held(fork)) == ([1, 2, 3], [1, 2])


def test_state_snapshots_count_shared_memory_once() -> None:
    spec = Spec(8, 5, 4, 4, "anchors", (1, 2), ((0,), (0, 1), (1,)))
    model = Model.from_module(tiny.tiny("llama", seed=4), spec)
    snapshots, state = StateSnapshots(), model.state()
    ids = tiny.text(120, 7)
    totals, numbers = [], []
    for at in range(0, 120, 8):
        model.step(state, ids[at : at + 8], rows="none")
        model.close(state)
        numbers.append(snapshots.add(state))
        totals.append(sum(state.nbytes().values()))
    assert 0 < snapshots.nbytes < sum(totals)
    again = snapshots.fork(numbers[4])
    assert again.position == 40
    for number in numbers[1:]:
        snapshots.drop(number)
    assert snapshots.nbytes == totals[0]
    snapshots.drop(numbers[0])
    snapshots.drop(numbers[0])
    assert snapshots.nbytes == 0
