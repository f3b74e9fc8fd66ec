"""Tiny checkpoints with a contract, attached by the built `lockstep attach`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import make_tiny
import torch
from lockstep.verification.probe import record
from tiny import tiny

ROOT = Path(__file__).resolve().parents[2]

#: TypeScript of the policies that the scheduling matrix runs.
POLICIES = {
    "fixed": "fixed()",
    "sentences": "sentences()",
    "sums": "sums()",  # with memory
    "throws": "throws()",  # on some sequences
    "every": "delimiters({ pattern: '[aeiou ]' })",  # asks often: for segments of one token
}


def write_model(
    folder: Path,
    architecture: str = "llama",
    *,
    seed: int = 0,
    layers: int = 4,
    kv_heads: int = 2,
    bias: bool = False,
    tied: bool = False,
) -> Path:
    """A random model with weights large enough that errors show, and make_tiny's tokenizer."""
    made = make_tiny.tokenizer()
    module = tiny(
        architecture,
        seed=seed,
        layers=layers,
        kv_heads=kv_heads,
        hidden=16 * kv_heads,  # vLLM's Qwen2 takes heads x head size for it
        dtype=torch.float32,
        vocabulary=made.get_vocab_size(),
        bias=bias,
        tied=tied,
    )
    module.config.max_position_embeddings = 8192
    module.config.bos_token_id = module.config.eos_token_id = 0
    module.save_pretrained(folder)
    make_tiny.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|endoftext|>", model_max_length=8192
    ).save_pretrained(folder)
    return folder


def attach(
    folder: Path,
    model: Path,
    *,
    policy: str = "fixed",
    least: int = 1,
    most: int = 48,
    align: int = 1,
    carry: int = 16,
    carry_heads: str = "local",
    sinks: int = 4,
    retrieval: int = 16,
    recipe: str = "anchors",
    layers: tuple[int, ...] = (1, 2),
    long: str = "[1]",
    sizes: Mapping[str, int] | None = None,
    probe: bool = False,
) -> Path:
    """A checkpoint in ``folder/checkpoint`` under a contract with these parameters.

    sizes: of the recipe `blocks`, as ``{"block": 4}``.
    probe: with one, recorded here; `lockstep attach` would start Python for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = POLICIES.get(policy, policy)
    retrieving = f"recipe: {recipe!r}, layers: {list(layers)}" if retrieval else "layers: []"
    retrieving += "".join(f", {name}: {size}" for name, size in (sizes or {}).items())
    for own in ("sums.ts", "throws.ts"):
        shutil.copy(Path(__file__).parent / own, folder)
    (folder / "lockstep.config.ts").write_text(
        f"""import {{ defineConfig, delimiters, fixed, sentences }} from 'lockstep';
import {{ sums }} from './sums.ts';
import {{ throws }} from './throws.ts';
void [delimiters, fixed, sentences, sums, throws];
export default defineConfig({{
  model: {str(model)!r}, out: 'out', policy: {source},
  segment: {{ min: {least}, max: {most}, align: {align} }},
  carry: {{ size: {carry}, sinks: {sinks}, heads: {carry_heads!r} }},
  retrieval: {{ size: {retrieval}, {retrieving} }},
  heads: {{ long: {long} }},
}});
"""
    )
    command = [shutil.which("node") or "node", str(ROOT / "dist" / "cli" / "main.js"), "attach"]
    done = subprocess.run(
        [*command, str(model), "--out", "checkpoint", "--no-probe"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    if probe:
        record(folder / "checkpoint")
    return folder / "checkpoint"


def trained(home: Path, name: str, probe: bool = False, **lora: object) -> Path:
    """A checkpoint ``home/name`` with an adapter of a few steps merged in, beside it the adapter.

    home: a folder with the base under its contract (`start`, `base`) and `text.txt`. probe: record
    those of both, as the end of `lockstep train` does.
    """
    from lockstep.training.lora import FOLDER
    from lockstep.verification.probe import record_adapter
    from lockstep.weights import adapter
    from training_run import Run

    out = home / name
    Run(home, out, lora=lora, trainable=[], steps=6, learningRate=3e-2)
    if probe:
        record(out)
        record_adapter(out, adapter.read(out / FOLDER))
    return out
