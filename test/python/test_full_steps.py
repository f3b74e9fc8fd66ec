"""Stock full attention in steps: the same numbers as in one pass, and as the engine gives them."""

from __future__ import annotations

import pytest
import torch
from lockstep import full
from lockstep.baseline.full_steps import FullSteps
from lockstep.contract.spec import Spec
from lockstep.operator.model import Model
from tiny import ARCHITECTURES, text, tiny

SPEC = Spec(16, 4, 2, 4, "anchors", (1,), ((), (0,), ()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stride", [1, 7, 64])
def test_steps_equal_one_pass(architecture: str, stride: int) -> None:
    model = Model.from_module(tiny(architecture), SPEC)
    steps, ids = FullSteps(model), text(64)
    state = steps.state()
    rows = []
    for at in range(0, len(ids), stride):
        rows.append(steps.step(state, ids[at : at + stride], rows="all"))
        assert steps.close(state) == {}
    whole_TV = full.logits(model, ids)
    assert torch.allclose(torch.cat(rows), whole_TV, atol=1e-10)
    assert state.position == 64
    config, item = model.config, 8
    kv = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * item
    assert sum(state.nbytes().values()) == 64 * kv
    segmented_TV = model.logits(ids, [16, 32, 48])
    assert not torch.allclose(segmented_TV, whole_TV, atol=1e-3)


def test_rows_and_other_sequences_do_not_mix() -> None:
    steps, ids = FullSteps(Model.from_module(tiny(), SPEC)), text(20)
    one, other = steps.state(), steps.state()
    assert steps.step(one, ids[:10], rows="none").shape[0] == 0
    steps.step(other, ids[5:15], rows="none")
    last_1V = steps.step(one, ids[10:], rows="last")
    assert torch.allclose(last_1V[0], full.logits(steps.model, ids)[-1], atol=1e-10)
