"""Equal tokens keep equal keys in layer 0 with an adapter, whatever is computed with them."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

# The engine in this process, before vLLM is imported.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

import checkpoints
import lockstep
from test_adapters import BOUND, engine, off, scored, served
from training_run import ROOT


def test_repeated_tokens_tie_to_the_lower_position(tmp_path: Path) -> None:
    """Layer 0 retrieves by keys that are equal to the bit wherever a token stands."""
    shutil.copyfile(ROOT / "LICENSE", tmp_path / "text.txt")
    model = checkpoints.write_model(tmp_path / "base")
    attached = checkpoints.attach(tmp_path, model, layers=(0,), recipe="topk")
    attached.rename(tmp_path / "start")
    checkpoints.trained(tmp_path, "a", rank=4, alpha=8, modules=["q_proj", "k_proj"])
    llm = engine(
        tmp_path / "start",
        max_model_len=1024,
        max_num_batched_tokens=70,
        enable_prefix_caching=False,
    )
    generator = random.Random(1)
    asked = [[generator.choice((5, 90, 200)) for _ in range(n)] for n in (500, 333)]
    reference = lockstep.load(tmp_path / "a")
    for ids, got_T, _ in served(llm, tmp_path, [("a", prompt) for prompt in asked], 24):
        assert off(got_T, scored(reference, ids)) <= BOUND
