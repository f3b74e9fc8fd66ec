"""Adapters that TRL and peft train on a segmented checkpoint: sealed to it, or refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lockstep
import pytest
import torch
import trl
from datasets import Dataset
from lockstep import LockstepError
from lockstep.contract.reader import read as read_contract
from lockstep.weights import adapter
from peft import LoraConfig, PeftModel, get_peft_model
from test_trl import QUIET, TEXTS, sft, tokenizer_of
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)

PLAIN: dict[str, Any] = {
    "r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj", "down_proj"],
    "task_type": "CAUSAL_LM",
}  # fmt: skip


def peft_of(folder: Path, **options: Any) -> Any:
    """A peft model over the checkpoint; its B are not zero, as after a training."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(**{**PLAIN, **options})
    )
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(1))
    return model


def trained(model: Any, folder: Path) -> Any:
    """One backward pass."""
    ids = torch.tensor([tokenizer_of(folder)(TEXTS[0]).input_ids])
    model(input_ids=ids, labels=ids).loss.backward()
    return model


def logits_of(model: Any, folder: Path) -> torch.Tensor:
    ids = torch.tensor([tokenizer_of(folder)(TEXTS[1]).input_ids])
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(ids).logits[0]
    return logits


def check_sealed(out: Path, made: Path, steps: int, model: Any) -> None:
    """It is this checkpoint's, and peft makes of both what was trained."""
    found = adapter.read(out)
    contract = read_contract(made)
    adapter.check(found, contract.document)
    sealed = json.loads((out / adapter.SEAL).read_bytes())
    assert sealed["trained"]["steps"] == steps
    assert sealed["trained"]["tokens"] > 0
    assert {name.rpartition(".")[2] for name in found.modules} == {"q_proj", "down_proj"}
    assert (found.rank, found.alpha) == (4, 8.0)
    base = AutoModelForCausalLM.from_pretrained(made)
    before = logits_of(base, made)
    again = logits_of(PeftModel.from_pretrained(base, out), made)
    assert float((again - logits_of(model, made)).abs().max()) < 1e-5
    assert float((again - before).abs().max()) > 1e-4


def check_by_node(out: Path) -> None:
    """`lockstep serve` reads it before vLLM does."""
    read = Path(__file__).parents[2] / "dist" / "weights" / "adapter.js"
    code = f"const m = await import({json.dumps(read.as_uri())}); console.log((await m.readAdapter(process.argv[1])).rank)"  # noqa: E501
    told = subprocess.run(
        ["node", "--input-type=module", "-e", code, str(out)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout.strip() == "4"


def test_our_trainer_saves_an_adapter_that_is_sealed(made: Path, tmp_path: Path) -> None:
    trainer = sft(made, tmp_path / "sft", {"max_steps": 2}, peft_config=LoraConfig(**PLAIN))
    trainer.train()
    trainer.save_adapter(tmp_path / "law")
    check_sealed(tmp_path / "law", made, 2, trainer.model)
    check_by_node(tmp_path / "law")


def test_trls_own_trainer_and_what_peft_saved_there(made: Path, tmp_path: Path) -> None:
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(made),
        args=trl.SFTConfig(output_dir=str(tmp_path / "sft"), **{**QUIET, "max_steps": 2}),
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        processing_class=tokenizer_of(made),
        peft_config=LoraConfig(**PLAIN),
    )
    trainer.train()
    out = tmp_path / "law"
    trainer.save_model(out)
    with pytest.raises(LockstepError) as unsealed:
        adapter.read(out)
    assert unsealed.value.code == "LS_ADAPTER_FILE"
    assert "lockstep.save_adapter" in str(unsealed.value.fix)
    lockstep.save_adapter(trainer.model, out)
    check_sealed(out, made, 2, trainer.model)


def test_the_adapter_of_another_step_takes_its_place(made: Path, tmp_path: Path) -> None:
    model = trained(peft_of(made), made)
    lockstep.save_adapter(model, tmp_path)
    first = adapter.read(tmp_path).sha256
    (tmp_path / "probe.json").write_text("{}")
    with torch.no_grad():
        model.get_parameter(
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
        ).add_(1.0)
    lockstep.save_adapter(model, tmp_path)
    assert adapter.read(tmp_path).sha256 != first
    assert not (tmp_path / "probe.json").exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"use_dora": True}, "LS_ADAPTER_KIND", "use_dora=True"),
        ({"use_rslora": True}, "LS_ADAPTER_KIND", "use_rslora=True"),
        ({"bias": "lora_only"}, "LS_ADAPTER_KIND", "bias='lora_only'"),
        ({"modules_to_save": ["norm"]}, "LS_ADAPTER_KIND", "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "LS_ADAPTER_KIND", "rank_pattern"),
        ({"target_modules": ["q_proj", "lm_head"]}, "LS_ADAPTER_TENSORS", "lm_head"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "LS_ADAPTER_TENSORS", "embed_tokens"),
        # It takes A and B out of the base's weights.
        ({"init_lora_weights": "pissa"}, "LS_ADAPTER_BASE", "q_proj.weight"),
    ],
)
def test_other_adapters_are_refused(
    made: Path, tmp_path: Path, options: dict[str, Any], code: str, words: str
) -> None:
    model = trained(peft_of(made, **options), made)
    with pytest.raises(LockstepError) as refused:
        lockstep.save_adapter(model, tmp_path / "law")
    assert refused.value.code == code
    assert words in str(refused.value)
    assert refused.value.fix
    assert not (tmp_path / "law").exists()


def moved_base(model: Any) -> None:
    with torch.no_grad():
        model.get_base_model().model.layers[1].self_attn.v_proj.weight[0, 0] += 1e-3


def second(model: Any) -> None:
    model.add_adapter("second", LoraConfig(**PLAIN))


@pytest.mark.parametrize(
    ("change", "code"), [(moved_base, "LS_ADAPTER_BASE"), (second, "LS_ADAPTER_KIND")]
)
def test_another_model_than_base_and_adapter_is_refused(
    made: Path, tmp_path: Path, change: Callable[[Any], None], code: str
) -> None:
    model = trained(peft_of(made), made)
    change(model)
    with pytest.raises(LockstepError) as refused:
        lockstep.save_adapter(model, tmp_path / "law")
    assert refused.value.code == code


def test_an_adapter_that_nothing_trained_in_segments_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(LockstepError) as refused:
        lockstep.save_adapter(peft_of(made), tmp_path / "law")
    assert refused.value.code == "LS_ADAPTER_UNTRAINED"


def test_models_without_a_contract_or_an_adapter_are_refused(made: Path, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(made.parent / "model")
    for model in (get_peft_model(plain, LoraConfig(**PLAIN)), peft_of(made).get_base_model()):
        with pytest.raises(LockstepError) as refused:
            lockstep.save_adapter(model, tmp_path / "law")
        assert refused.value.code == "LS_ADAPTER_MODEL"


def test_folders_with_pickles_or_a_checkpoint_are_refused(made: Path, tmp_path: Path) -> None:
    model = trained(peft_of(made), made)
    torch.save({}, tmp_path / "adapter_model.bin")
    for folder, words in ((tmp_path, "adapter_model.bin"), (made, "the checkpoint")):
        with pytest.raises(LockstepError) as refused:
            lockstep.save_adapter(model, folder)
        assert refused.value.code == "LS_ADAPTER_FOLDER"
        assert words in str(refused.value)
