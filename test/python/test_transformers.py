"""Plain transformers refuses a segmented checkpoint, and runs what `lockstep detach` makes of it;
with `lockstep.transformers` it runs the checkpoint in segments (test_transformers_model.py)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lockstep
import make_tiny
import torch
from lockstep.contract.model_type import PLAIN, plain_config, plain_type, segmented_type

ROOT = Path(__file__).parents[2]
#: In a process of its own: importing lockstep.transformers cannot be undone.
PROGRAM = """
import importlib, json, pickle, sys
path, module, calls = sys.argv[1:]
if module:
    importlib.import_module(module)
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
answers = {}
for name, call in json.loads(calls).items():
    try:
        answers[name] = {"value": eval(call)}
    except Exception as error:
        answers[name] = {"error": type(error).__name__, "message": str(error)}
        answers[name] |= {key: getattr(error, key, None) for key in ("code", "fix")}
print(json.dumps(answers, default=repr))
"""
#: What scripts, lm-eval's `hf` and TRL begin with.
RUNS = {
    "AutoModelForCausalLM": "type(AutoModelForCausalLM.from_pretrained(path)).__name__",
    "trust_remote_code": "type(AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True))"
    ".__name__",
    "pipeline": "type(pipeline('text-generation', path).model).__name__",
}
#: What has no contract, or no head.
REFUSED = {
    "AutoModel": "AutoModel.from_pretrained(path)",
    "from_config": "AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path))",
}
CALLS = RUNS | REFUSED


TEXT = "the cat, and <|im_start|> 12 other things."
TOKENS = {"tokenizer": f"AutoTokenizer.from_pretrained(path)({TEXT!r}).input_ids"}


def ask(
    path: Path, calls: dict[str, str], module: str = "", python: str | None = None
) -> dict[str, dict[str, Any]]:
    run = subprocess.run(
        [python or sys.executable, "-c", PROGRAM, str(path), module, json.dumps(calls)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
    )
    return json.loads(run.stdout.splitlines()[-1])


def test_transformers_alone_does_not_know_the_type(made: Path, real_python: str) -> None:
    answers = ask(made, CALLS | TOKENS, python=real_python)
    assert answers.pop("tokenizer")["value"] == make_tiny.tokenizer().encode(TEXT).ids
    assert answers.keys() == CALLS.keys()
    for answer in answers.values():
        assert answer["error"] == "ValueError"
        assert "lockstep_llama" in answer["message"]
        assert "does not recognize" in answer["message"]
        assert "trust_remote_code" not in answer["message"]


def test_with_our_module_it_runs_in_segments_or_says_what_to_do(made: Path) -> None:
    answers = ask(made, CALLS | TOKENS, "lockstep.transformers")
    assert answers.pop("tokenizer")["value"] == make_tiny.tokenizer().encode(TEXT).ids
    for name in RUNS:
        assert answers.pop(name) == {"value": "SegmentedLlamaForCausalLM"}
    assert answers.keys() == REFUSED.keys()
    for answer in answers.values():
        assert answer["code"] == "LS_TRANSFORMERS_SEGMENTED"
        for text in (answer["message"], answer["fix"]):
            assert "lockstep.load" in text and "lockstep detach" in text


def test_every_family_is_known_by_both_names(tmp_path: Path) -> None:
    assert plain_type("lockstep_gpt2") == "lockstep_gpt2"
    calls, expected = {}, {}
    for plain in PLAIN:
        own = segmented_type(plain)
        assert own == f"lockstep_{plain}" == segmented_type(own)
        assert plain_type(own) == plain == plain_type(plain)
        folder = tmp_path / plain
        folder.mkdir()
        settings = {"model_type": own, "vocab_size": 77}
        (folder / "config.json").write_text(json.dumps(settings))
        config = plain_config(folder)
        assert (config.model_type, config.vocab_size) == (plain, 77)
        read = f"AutoConfig.from_pretrained(path + '/{plain}')"
        # vLLM hands a configuration to its processes pickled.
        calls[plain] = f"[(c := pickle.loads(pickle.dumps({read}))).model_type, type(c).__name__]"
        expected[plain] = {"value": [own, f"Lockstep{type(config).__name__}"]}
    assert ask(tmp_path, calls, "lockstep.transformers") == expected


def test_a_detached_copy_runs_with_full_attention(made: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "plain"
    node = shutil.which("node") or "node"
    command = [node, str(ROOT / "dist/cli/main.js"), "detach", str(made), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    stock: Any = AutoModelForCausalLM.from_pretrained(out).eval()
    assert type(stock).__name__ == "LlamaForCausalLM"
    ids = AutoTokenizer.from_pretrained(out)("the way in and the way out of it. " * 5).input_ids
    model = lockstep.load(made)
    with torch.no_grad():
        full_TV = stock(torch.tensor([ids])).logits[0]
    assert torch.equal(full_TV, lockstep.full.logits(model, ids))
    assert (full_TV - model.logits(ids)).abs().max() > 0.01
