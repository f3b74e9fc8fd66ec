"""Options and calls that transformers refuses on a segmented checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers_case import GREEDY, refused
from transformers_case import model as model
from transformers_case import rows as rows


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
