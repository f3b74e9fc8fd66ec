"""transformers' loss and gradients on a segmented checkpoint against the trainer's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import lockstep
import pytest
import torch
from lockstep import tbptt
from lockstep.contract.reader import read
from lockstep.training import sidecar_files
from lockstep.verification import probe
from oracle.gradient import gradient
from parity import plain, weights_of
from transformers import AutoModelForCausalLM
from transformers_case import gradients, padded, refused, relative
from transformers_case import model as model
from transformers_case import reference as reference
from transformers_case import rows as rows


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


def test_a_copy_has_every_file_of_the_checkpoint(made: Path, tmp_path: Path) -> None:
    start = Path(shutil.copytree(made, tmp_path / "start"))
    for name in sidecar_files.NAMES:
        if not (start / name).exists():
            (start / name).parent.mkdir(exist_ok=True)
            (start / name).write_text("{}" if name.endswith(".json") else f"{name}\n")
    AutoModelForCausalLM.from_pretrained(start).save_pretrained(tmp_path / "out")
    for name in (*sidecar_files.NAMES, sidecar_files.POLICY):
        assert (tmp_path / "out" / name).read_bytes() == (start / name).read_bytes(), name
    lockstep.load(tmp_path / "out")


def test_a_generation_config_that_transformers_does_not_write(made: Path, tmp_path: Path) -> None:
    start = Path(shutil.copytree(made, tmp_path / "start"))
    file = start / "generation_config.json"
    given = json.loads(file.read_text())
    file.write_text(json.dumps({**given, "temperature": 0.6, "top_p": 0.9, "pad_token_id": -1}))
    model = AutoModelForCausalLM.from_pretrained(start)
    with pytest.raises(ValueError, match="do_sample"):
        model.generation_config.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    assert model.generation_config.temperature == 0.6
    lockstep.load(tmp_path / "out")
    # Where the checkpoint has no such file, and config.json says it as older models do.
    file.unlink()
    model.segments.files.pop(file.name)
    model.save_pretrained(tmp_path / "other")
    written = json.loads((tmp_path / "other" / file.name).read_text())
    assert written["eos_token_id"] == model.generation_config.eos_token_id
    assert not written.keys() & {"temperature", "top_p", "pad_token_id"}


def test_a_probe_of_the_weights_before_does_not_stay(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "checkpoint"))
    probe.record(folder)
    before = (folder / probe.PROBE_FILE).read_bytes()
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(folder)  # the same weights: it is theirs
    assert (folder / probe.PROBE_FILE).read_bytes() == before
    assert probe.load(folder, read(folder)) is not None
    with torch.no_grad():
        model.model.norm.weight.add_(1.0)
    model.save_pretrained(folder)
    assert probe.load(folder, read(folder)) is None


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
