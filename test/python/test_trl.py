"""TRL's own trainers on a segmented checkpoint: what they train is what `lockstep train` would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lockstep
import pytest
import torch
import transformers
import trl
from datasets import Dataset
from lockstep import LockstepError, tbptt
from lockstep.trl import DPOTrainer, Segmented, SFTTrainer
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)

TEXTS = [f"the {n}. way in, and the way out of it. The end of {n} and so on." for n in range(6)]
PAIRS = {
    "prompt": ["the way in. ", "and the other: "],
    "chosen": ["the way out of it, and the end.", "an answer that is right, and long."],
    "rejected": ["no.", "the wrong one."],
}
QUIET: dict[str, Any] = {
    "report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no",
    "learning_rate": 0.5, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0,
    "per_device_train_batch_size": 2, "max_steps": 1, "warmup_steps": 0, "bf16": False,
}  # fmt: skip


def tokenizer_of(folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<|im_end|>"
    return tokenizer


def sft(folder: Path, out: Path, options: dict[str, Any] | None = None, **more: Any) -> Any:
    args = trl.SFTConfig(output_dir=str(out), **{**QUIET, **(options or {})})
    data = more.pop("data", None) or Dataset.from_dict({"text": TEXTS})
    return SFTTrainer(
        model=str(folder), args=args, train_dataset=data, processing_class=tokenizer_of(folder),
        **more,
    )  # fmt: skip


def moved(trainer: Any, before: dict[str, torch.Tensor], rate: float) -> dict[str, torch.Tensor]:
    """The gradient that one step of plain SGD took."""
    after = {n: p.detach() for n, p in trainer.model.named_parameters()}
    return {n: (before[n] - after[n]) / rate for n in before}


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def relative(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[n] - b[n]).abs().max() / b[n].abs().max()) for n in a)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_step_of_sft_is_the_trainers_gradient(
    made: Path, tmp_path: Path, checkpointing: bool
) -> None:
    trainer = sft(made, tmp_path, {"gradient_checkpointing": checkpointing})
    batches: list[torch.Tensor] = []
    collate = trainer.data_collator

    def watched(examples: list[dict[str, Any]]) -> Any:
        batches.extend(torch.tensor(example["input_ids"]) for example in examples)
        return collate(examples)

    trainer.data_collator = watched
    before = weights(trainer.model)
    trainer.train()
    del batches[2:]  # the loader looks one batch ahead
    reference = lockstep.load(made)
    assert len(batches) == 2 and all(reference.plan(ids) for ids in batches)
    loss = tbptt.backward(reference, [(ids, None) for ids in batches], 1)
    expected = {n: p.grad for n, p in reference.module.named_parameters()}
    assert relative(moved(trainer, before, 0.5), expected) < 1e-3
    assert abs(trainer.state.log_history[-1]["train_loss"] - loss.mean) < 1e-4


def test_the_loss_of_answers_alone(made: Path, tmp_path: Path) -> None:
    rows = {"prompt": PAIRS["prompt"], "completion": PAIRS["chosen"]}
    trainer = sft(made, tmp_path, data=Dataset.from_dict(rows))
    before = weights(trainer.model)
    trainer.train()
    model = AutoModelForCausalLM.from_pretrained(made).train()
    tokenizer = tokenizer_of(made)
    total, count = torch.zeros(()), 0
    for prompt, answer in zip(rows["prompt"], rows["completion"], strict=True):
        front = tokenizer(prompt).input_ids
        ids = torch.tensor([[*tokenizer(prompt + answer).input_ids, tokenizer.eos_token_id]])
        labels = ids.clone()
        labels[:, : len(front)] = -100
        n = int((labels != -100).sum())
        total, count = total + model(ids, labels=labels).loss * n, count + n
    (total / count).backward()
    expected = {n: p.grad for n, p in model.named_parameters()}
    assert relative(moved(trainer, before, 0.5), expected) < 1e-3


def test_packed_rows_are_sequences_of_their_own(made: Path, tmp_path: Path) -> None:
    options = {"packing": True, "max_length": 256, "per_device_train_batch_size": 1}
    trainer = sft(made, tmp_path, options)
    batch = next(iter(trainer.get_train_dataloader()))
    assert int((batch["position_ids"] == 0).sum()) > 1
    before = weights(trainer.model)
    trainer.train()
    reference = lockstep.load(made)
    starts = (batch["position_ids"][0] == 0).nonzero()[:, 0].tolist()
    ids = batch["input_ids"][0].tolist()
    docs = [ids[a:b] for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]
    tbptt.backward(reference, [(one, None) for one in docs], 1)
    expected = {n: p.grad for n, p in reference.module.named_parameters()}
    assert relative(moved(trainer, before, 0.5), expected) < 1e-3


def dpo(folder: Path, out: Path, **options: Any) -> Any:
    args = trl.DPOConfig(output_dir=str(out), beta=0.5, **{**QUIET, **options})
    return DPOTrainer(
        model=str(folder), args=args, train_dataset=Dataset.from_dict(PAIRS),
        processing_class=tokenizer_of(folder),
    )  # fmt: skip


@pytest.mark.parametrize("kept", [False, True])
def test_a_step_of_dpo_prefers_the_chosen(made: Path, tmp_path: Path, kept: bool) -> None:
    trainer = dpo(made, tmp_path, precompute_ref_log_probs=kept)
    before = weights(trainer.model)
    trainer.train()
    found = moved(trainer, before, 0.5)
    # At the start policy and reference agree: d loss / d log p is -beta/2 and +beta/2 a pair.
    tokenizer, reference = tokenizer_of(made), lockstep.load(made)
    expected: dict[str, Any] = {}
    for n, prompt in enumerate(PAIRS["prompt"]):
        front = tokenizer(prompt).input_ids
        for column, sign in (("chosen", -1.0), ("rejected", 1.0)):
            ids = [*tokenizer(prompt + PAIRS[column][n]).input_ids, tokenizer.eos_token_id]
            model = AutoModelForCausalLM.from_pretrained(made).train()
            logs = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            own = logs.gather(1, torch.tensor(ids)[1:, None])[len(front) - 1 :]
            (0.5 * sign * 0.5 * own.sum() / len(PAIRS["prompt"])).backward()
            for name, p in model.named_parameters():
                expected[name] = expected.get(name, 0) + p.grad
    assert relative(found, expected) < 1e-3
    after = trainer.model.eval()
    margin = 0.0
    for column, sign in (("chosen", 1.0), ("rejected", -1.0)):
        for n, prompt in enumerate(PAIRS["prompt"]):
            ids = tokenizer(prompt + PAIRS[column][n]).input_ids
            front = len(tokenizer(prompt).input_ids)
            with torch.no_grad():
                logs = after(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
            own = logs.gather(1, torch.tensor(ids)[1:, None])[front - 1 :].sum()
            margin += sign * float(own + reference.nll(ids)[front - 1 :].sum())
    assert margin > 0


def test_what_a_training_writes_is_a_checkpoint(made: Path, tmp_path: Path) -> None:
    options = {"max_steps": 3, "gradient_accumulation_steps": 2, "learning_rate": 0.05}
    trainer = sft(made, tmp_path / "out", options)
    trainer.train()
    trainer.save_model(tmp_path / "out")
    again = lockstep.load(tmp_path / "out")
    trained = again.contract.document["trained"]
    assert trained["steps"] == 3 and trained["tokens"] > 3 * 4 * 40
    assert again.contract.digest == lockstep.load(made).contract.digest
    ids = tokenizer_of(made)(TEXTS[0]).input_ids
    with torch.no_grad():
        logits = trainer.model.eval()(torch.tensor([ids])).logits[0]
    assert float((again.logits(ids) - logits).abs().max()) < 1e-4


def test_adapters_are_trained_and_merged(made: Path, tmp_path: Path) -> None:
    config = LoraConfig(
        r=4, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"
    )
    trainer = sft(made, tmp_path / "adapter", {"max_steps": 2}, peft_config=config)
    trainer.train()
    trainer.save_model(tmp_path / "adapter")
    trainer.save_merged(tmp_path / "merged")
    again = lockstep.load(tmp_path / "merged")
    assert again.contract.document["trained"]["steps"] == 2
    ids = tokenizer_of(made)(TEXTS[0]).input_ids
    with torch.no_grad():
        logits = trainer.model.eval()(torch.tensor([ids])).logits[0]
    assert float((again.logits(ids) - logits).abs().max()) < 1e-4
    assert float((lockstep.load(made).logits(ids) - logits).abs().max()) > 1e-3
    from peft import AutoPeftModelForCausalLM

    adapted = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        same = adapted(torch.tensor([ids])).logits[0]
    assert float((same - logits).abs().max()) < 1e-4


def test_the_mixin_serves_transformers_own_trainer(made: Path, tmp_path: Path) -> None:
    class Own(Segmented, transformers.Trainer):
        pass

    ids = tokenizer_of(made)(TEXTS[0]).input_ids
    rows = Dataset.from_dict({"input_ids": [ids] * 4, "labels": [ids] * 4})
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), **QUIET)
    model = AutoModelForCausalLM.from_pretrained(made)
    trainer = Own(model=model, args=args, train_dataset=rows)
    trainer.train()
    trainer.save_model(tmp_path / "out")
    assert lockstep.load(tmp_path / "out").contract.document["trained"]["steps"] == 1


def test_the_example_of_the_docs_trains(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "other-tools.md").read_text("utf-8")
    example = text.split("## TRL")[1].split("```python no-run\n")[1].split("```")[0]
    turns = [{"role": "user", "content": "the way?"}, {"role": "assistant", "content": "In."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    shown = example.replace("runs/attached", str(made))
    exec(shown.replace('report_to="none"', 'report_to="none", use_cpu=True, max_steps=1'), {})
    assert lockstep.load("runs/sft").contract.document["trained"]["steps"] == 1


@pytest.mark.parametrize(
    "options",
    [{"neftune_noise_alpha": 5.0}, {"torch_compile": True}, {"activation_offloading": True}],
)
def test_options_that_train_something_else_are_refused(
    made: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(LockstepError) as caught:
        sft(made, tmp_path, options)
    assert caught.value.code == "LS_TRL_OPTION" and next(iter(options)) in caught.value.message


def test_a_model_without_a_contract_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(LockstepError) as caught:
        sft(made.parent / "model", tmp_path)
    assert caught.value.code == "LS_TRL_MODEL"
