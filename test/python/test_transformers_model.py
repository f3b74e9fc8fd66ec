"""transformers' forward and generate on a segmented checkpoint against `lockstep.load`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lockstep
import pytest
import torch
from lockstep.transformers.cache import SegmentedCache
from transformers_case import GREEDY, furthest, padded
from transformers_case import model as model
from transformers_case import reference as reference
from transformers_case import rows as rows


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_padded_rows_are_what_each_is_alone(
    model: Any, reference: lockstep.Model, rows: list[list[int]], side: str, use_cache: bool
) -> None:
    ids_BL, mask_BL = padded(rows, side)
    with torch.no_grad():
        logits = model(ids_BL, attention_mask=mask_BL, use_cache=use_cache).logits
    assert len(reference.plan(rows[0])) > 3
    for row, ids in enumerate(rows):
        assert furthest(logits[row][mask_BL[row].bool()], reference, ids) < 1e-9


def test_greedy_generation_is_the_reference_at_every_token(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    ids_BL, mask_BL = padded(rows)
    out = model.generate(
        ids_BL, attention_mask=mask_BL, max_new_tokens=60, output_logits=True,
        return_dict_in_generate=True, **GREEDY,
    )  # fmt: skip
    assert isinstance(out.past_key_values, SegmentedCache)
    steps = torch.stack(out.logits, 1)
    for row, ids in enumerate(rows):
        made = out.sequences[row, ids_BL.shape[1] :].tolist()
        whole = reference.logits(ids + made)[len(ids) - 1 : -1]
        assert len(made) == 60 and whole.argmax(-1).tolist() == made
        assert float((steps[row].double() - whole).abs().max()) < 1e-6  # generate keeps float32
        state = out.past_key_values.rows[row].state
        assert state.position == len(ids) + 59 and state.start > len(ids)


def test_each_step_of_a_batch_is_the_reference(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    cut = 5
    ids_BL, mask_BL = padded([row[:-cut] for row in rows])
    with torch.no_grad():
        out = model(ids_BL, attention_mask=mask_BL, use_cache=True)
        for at in range(cut):
            next_B1 = torch.tensor([[row[at - cut]] for row in rows])
            mask_BL = torch.cat((mask_BL, torch.ones_like(next_B1)), 1)
            out = model(next_B1, attention_mask=mask_BL, past_key_values=out.past_key_values)
            for row, ids in enumerate(rows):
                seen = ids[: len(ids) - cut + at + 1]
                last = reference.logits(seen)[-1]
                assert float((out.logits[row, -1] - last).abs().max()) < 1e-9


def test_sampling_draws_from_the_references_distribution(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    torch.manual_seed(5)
    with_cache = model.generate(
        torch.tensor([rows[1]]), max_new_tokens=40, do_sample=True, eos_token_id=None,
        pad_token_id=0, temperature=0.8, top_k=20,
    )  # fmt: skip
    torch.manual_seed(5)
    without = model.generate(
        torch.tensor([rows[1]]), max_new_tokens=40, do_sample=True, eos_token_id=None,
        pad_token_id=0, temperature=0.8, top_k=20, use_cache=False,
    )  # fmt: skip
    assert with_cache.tolist() == without.tolist()
    made = with_cache[0].tolist()
    logits = reference.logits(made)[len(rows[1]) - 1 : -1]
    drawn = logits.topk(20).indices.tolist()
    assert all(token in best for token, best in zip(made[len(rows[1]) :], drawn, strict=True))
    assert made[len(rows[1]) :] != logits.argmax(-1).tolist()


def test_beams_fork_the_state(model: Any, reference: lockstep.Model, rows: list[list[int]]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 24, "num_beams": 3, "output_scores": True}
    options |= {"return_dict_in_generate": True, **GREEDY}
    ids_BL, mask_BL = padded(rows[:2])
    out = model.generate(ids_BL, attention_mask=mask_BL, length_penalty=0.0, **options)
    for row, ids in enumerate(rows[:2]):
        made = out.sequences[row, ids_BL.shape[1] :].tolist()
        logs = reference.logits(ids + made).log_softmax(-1)[len(ids) - 1 : -1]
        score = float(logs.gather(1, torch.tensor(made)[:, None]).sum())
        assert abs(score - float(out.sequences_scores[row])) < 1e-4


def test_a_later_call_goes_on_from_the_cache(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    torch.manual_seed(3)  # sampled: a text that repeats itself has ties in retrieval
    first = model.generate(
        torch.tensor([rows[1]]), max_new_tokens=30, return_dict_in_generate=True,
        **(GREEDY | {"do_sample": True}),
    )  # fmt: skip
    more = torch.cat((first.sequences, torch.tensor([rows[0]])), 1)
    kept = copy.deepcopy(first.past_key_values)
    again = model.generate(more, past_key_values=first.past_key_values, max_new_tokens=8, **GREEDY)
    afresh = model.generate(more, max_new_tokens=8, **GREEDY)
    assert again.tolist() == afresh.tolist()
    assert kept.rows[0].state.position == len(rows[1]) + 29


@pytest.mark.parametrize("use_cache", [False, None])
def test_packed_sequences_share_nothing(
    model: Any, reference: lockstep.Model, rows: list[list[int]], use_cache: bool | None
) -> None:
    """As an evaluation calls, too: no word of a cache, and then there is none."""
    ids = [token for row in rows for token in row]
    places = [at for row in rows for at in range(len(row))]
    with torch.no_grad():
        out = model(torch.tensor([ids]), position_ids=torch.tensor([places]), use_cache=use_cache)
        plain = model(torch.tensor([ids]), position_ids=torch.arange(len(ids))[None])
    assert out.past_key_values is None and plain.past_key_values is not None
    start = 0
    for row in rows:
        assert furthest(out.logits[0, start : start + len(row)], reference, row) < 1e-9
        start += len(row)


def test_a_copy_is_independent(model: Any, rows: list[list[int]]) -> None:
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.model.embed_tokens.weight.mul_(0.5)
        one, other = (m(torch.tensor([rows[1]])).logits for m in (model, copied))
    assert float((one - other).abs().max()) > 1e-3
    assert copied.segments is not model.segments and copied.model.segments is copied.segments


def test_the_example_of_the_docs_runs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "other-tools.md").read_text("utf-8")
    example = text.split("## transformers")[1].split("```python\n")[1].split("```")[0]
    assert example.count("runs/shakespeare") == 2
    exec(example.replace("runs/shakespeare", str(made)), {})
    assert "Of Mans First Disobedience," in capsys.readouterr().out
