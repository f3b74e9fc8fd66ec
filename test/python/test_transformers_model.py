"""transformers' forward, generate and loss on a segmented checkpoint against `lockstep.load`."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import lockstep
import lockstep.transformers
import pytest
import torch
from lockstep import LockstepError, tbptt
from lockstep.transformers.cache import SegmentedCache
from oracle.gradient import gradient
from parity import plain, weights_of
from test_contract import made as made
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


def test_packed_sequences_share_nothing(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    ids = [token for row in rows for token in row]
    places = [at for row in rows for at in range(len(row))]
    with torch.no_grad():
        logits = model(
            torch.tensor([ids]), position_ids=torch.tensor([places]), use_cache=False
        ).logits
    start = 0
    for row in rows:
        assert furthest(logits[0, start : start + len(row)], reference, row) < 1e-9
        start += len(row)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def relative(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in a)


@pytest.mark.parametrize("truncation", [0, 1, 3])
@pytest.mark.parametrize("recompute", [False, True])
def test_the_loss_has_the_exact_truncated_gradient(
    made: Path, reference: lockstep.Model, rows: list[list[int]], truncation: int, recompute: bool
) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        made, dtype=torch.float64, truncation=truncation
    ).train()
    if recompute:
        model.gradient_checkpointing_enable()
        assert model.is_gradient_checkpointing
    short = [row[:90] for row in rows]
    ids_BL, mask_BL = padded(short, "right")
    labels = ids_BL.masked_fill(mask_BL == 0, -100)
    out = model(ids_BL, attention_mask=mask_BL, labels=labels)
    # transformers' own loss is float32's.
    loss = torch.nn.functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    assert abs(float(loss.detach()) - float(out.loss.detach())) < 1e-5
    loss.backward()
    docs = [(ids, reference.plan(ids)) for ids in short]
    total, count, expected = gradient(
        weights_of(model), model.config, plain(reference.spec), docs, truncation
    )
    assert abs(float(loss.detach()) - total / count) < 1e-9
    assert relative(gradients(model), expected) < 1e-10


def test_a_loss_of_two_answers_has_the_trainers_gradient(
    model: Any, reference: lockstep.Model, rows: list[list[int]]
) -> None:
    """A preference loss: its gradient in each row of hidden states, carried by the trainer."""
    ids_BL, mask_BL = padded([rows[0], rows[2]], "right")
    out = model(ids_BL, attention_mask=mask_BL)
    logs = out.logits[:, :-1].log_softmax(-1).gather(2, ids_BL[:, 1:, None])[..., 0]
    sums = (logs * mask_BL[:, 1:]).sum(1)
    loss = -torch.nn.functional.logsigmoid(0.01 * (sums[0] - sums[1]))
    loss.backward()
    mine = gradients(model)
    # The same by hand: d loss / d sums weighs each answer's own gradient of its log-probability.
    weight = 0.01 * (1 - float(torch.sigmoid(0.01 * (sums[0] - sums[1])).detach()))
    body = reference.module
    for ids, sign in ((rows[0], 1.0), (rows[2], -1.0)):
        tbptt.backward(reference, [(ids, None)], model.segments.truncation, targets=1)
        for p in body.parameters():
            p.grad_so_far = getattr(p, "grad_so_far", 0) + sign * weight * p.grad
            p.grad = None
    expected = {name: p.__dict__.pop("grad_so_far") for name, p in body.named_parameters()}
    assert relative(mine, expected) < 1e-10


def test_accumulated_and_frozen_weights(made: Path, rows: list[list[int]]) -> None:
    model = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float64).train()
    for name, p in model.named_parameters():
        p.requires_grad_("layers.1" in name)
    ids = torch.tensor([rows[0]])
    model(ids, labels=ids).loss.backward()
    once = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model(ids, labels=ids).loss.backward()
    assert once and all("layers.1" in name for name in once)
    for name, grad in once.items():
        assert torch.allclose(model.get_parameter(name).grad, 2 * grad, rtol=1e-12)


def test_a_copy_is_independent(model: Any, rows: list[list[int]]) -> None:
    copied = copy.deepcopy(model)
    with torch.no_grad():
        copied.model.embed_tokens.weight.mul_(0.5)
        one, other = (m(torch.tensor([rows[1]])).logits for m in (model, copied))
    assert float((one - other).abs().max()) > 1e-3
    assert copied.segments is not model.segments and copied.model.segments is copied.segments


def test_weights_changed_before_the_backward_pass_are_refused(
    made: Path, rows: list[list[int]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(made).train()
    ids = torch.tensor([rows[1]])
    loss = model(ids, labels=ids).loss
    with torch.no_grad():
        model.model.norm.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_a_trained_copy_is_saved_under_the_same_contract(
    made: Path, tmp_path: Path, rows: list[list[int]]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(made).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.tensor([rows[0]])
    for _ in range(2):
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path / "out")
    again = lockstep.load(tmp_path / "out")
    trained = again.contract.document["trained"]
    assert (trained["steps"], trained["tokens"]) == (2, 2 * len(rows[0]))
    assert again.contract.digest == model.segments.contract.digest
    with torch.no_grad():
        logits = model.eval()(ids).logits[0]
    assert float((again.logits(rows[0]) - logits).abs().max()) < 1e-4
    assert float((lockstep.load(made).logits(rows[0]) - logits).abs().max()) > 1e-2


def test_the_example_of_the_docs_runs(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "other-tools.md").read_text("utf-8")
    example = text.split("## transformers")[1].split("```python\n")[1].split("```")[0]
    assert example.count("runs/shakespeare") == 2
    exec(example.replace("runs/shakespeare", str(made)), {})
    assert "Of Mans First Disobedience," in capsys.readouterr().out


def refused(call: Any, *args: Any, **options: Any) -> LockstepError:
    with pytest.raises(LockstepError) as caught:
        call(*args, **options)
    assert caught.value.mend and "expected" in caught.value.message
    return caught.value


def test_a_contract_that_does_not_fit_is_refused(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    document = json.loads((folder / "lockstep.json").read_text())
    document["carry"]["size"] += 1
    (folder / "lockstep.json").write_text(json.dumps(document))
    assert refused(AutoModelForCausalLM.from_pretrained, folder).code == "LS_CONTRACT_DIGEST"
    (folder / "lockstep.json").unlink()
    assert refused(AutoModelForCausalLM.from_pretrained, folder).code == "LS_CONTRACT_MISSING"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"dtype": torch.float16}, "LS_MODEL_DTYPE"),
        ({"device_map": "balanced"}, "LS_TRANSFORMERS_OPTION"),
        ({"attn_implementation": "eager"}, "LS_TRANSFORMERS_OPTION"),
        ({"truncation": -1}, "LS_TRANSFORMERS_OPTION"),
        ({"quantization_config": {"load_in_8bit": True}}, "LS_TRANSFORMERS_OPTION"),
        ({"num_hidden_layers": 2}, "LS_TRANSFORMERS_OPTION"),
        ({"rms_norm_eps": 1e-3}, "LS_TRANSFORMERS_OPTION"),
    ],
)
def test_options_that_would_change_the_model_are_refused(
    made: Path, options: dict[str, Any], code: str
) -> None:
    assert refused(AutoModelForCausalLM.from_pretrained, made, **options).code == code


def test_calls_that_segments_cannot_answer_are_refused(model: Any, rows: list[list[int]]) -> None:
    ids = torch.tensor([rows[1]])
    hole = torch.ones_like(ids)
    hole[0, 3] = 0
    embeds = model.get_input_embeddings()(ids)
    for code, options in (
        ("LS_TRANSFORMERS_MASK", {"attention_mask": hole}),
        ("LS_TRANSFORMERS_MASK", {"attention_mask": torch.ones(1, 3)}),
        ("LS_TRANSFORMERS_POSITIONS", {"position_ids": torch.arange(ids.shape[1])[None] + 1}),
        ("LS_TRANSFORMERS_OPTION", {"output_attentions": True}),
        ("LS_TRANSFORMERS_OPTION", {"output_hidden_states": True}),
        ("LS_TRANSFORMERS_OPTION", {"token_type_ids": torch.zeros_like(ids)}),
        ("LS_TRANSFORMERS_OPTION", {"labels": ids, "use_cache": True}),
    ):
        assert refused(model, ids, **options).code == code, options
    assert refused(model, inputs_embeds=embeds).code == "LS_TRANSFORMERS_OPTION"
    assert refused(model, torch.tensor([[999]])).code == "LS_TOKENS_RANGE"


def test_ways_to_generate_that_go_back_are_refused(
    model: Any, made: Path, rows: list[list[int]]
) -> None:
    from transformers import DynamicCache

    ids = torch.tensor([rows[1]])
    assistant = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float64)
    for options in (
        {"prompt_lookup_num_tokens": 3},
        {"assistant_model": assistant},
        {"cache_implementation": "static"},
    ):
        error = refused(model.generate, ids, max_new_tokens=4, **GREEDY, **options)
        assert error.code == "LS_TRANSFORMERS_OPTION"
    error = refused(model.generate, ids, past_key_values=DynamicCache(), max_new_tokens=4, **GREEDY)
    assert error.code == "LS_TRANSFORMERS_CACHE"


def test_dropout_is_refused_where_it_would_be_trained(made: Path, rows: list[list[int]]) -> None:
    from peft import LoraConfig, get_peft_model

    ids = torch.tensor([rows[1]])
    for dropout in (0.1, 0.0):
        base = AutoModelForCausalLM.from_pretrained(made)
        config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=dropout)
        model = get_peft_model(base, config).train()
        if dropout:
            assert refused(model, ids, labels=ids).code == "LS_TRANSFORMERS_DROPOUT"
        else:
            model(ids, labels=ids).loss.backward()
            grads = [p.grad for p in model.parameters() if p.requires_grad]
            assert grads and all(g is not None for g in grads)
            assert max(float(g.abs().max()) for g in grads if g is not None) > 0


def test_autocast_and_processes_hooks_see_one_gradient(made: Path, rows: list[list[int]]) -> None:
    model = AutoModelForCausalLM.from_pretrained(made).train()
    ids = torch.tensor([rows[0]])
    calls: list[str] = []
    for name, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda _, name=name: calls.append(name))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, labels=ids).loss
    loss.backward()
    assert sorted(calls) == sorted(name for name, _ in model.named_parameters())
    rough = gradients(model)
    model(ids, labels=ids).loss.backward()
    assert 1e-4 < relative(rough, gradients(model)) < 0.2
