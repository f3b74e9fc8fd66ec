"""What training adds to recall: the same tokens in segments and with full attention.

    PYTHONPATH=python .venv/bin/python bench/recall/training/adds.py \\
        [--seeds 0,1,2] [--steps 20] [--arms untrained,segmented,full] [--lengths 2048] \\
        [--documents 8]

Every arm and seed trains through the CLI under ``lockstep.config.ts`` (half of the tokens are
recall documents of the split `train`), the same sequences in the same order. Then needles of the
split `eval` are asked for, in texts that no training saw, run in segments and with full attention.
Lines go to ``../raw/adds-LENGTH.jsonl``; the same command resumes. ``../results.py`` makes the
table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lockstep import Model
from lockstep.evaluation.recall import ask
from lockstep.loader import load, load_module

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]
from machine import header  # noqa: E402
from windows import DEPTHS, PLAIN, RUNS, eval_maker  # noqa: E402

UNTRAINED = "untrained"
#: Options of `lockstep train` and variables of the config, by arm.
ARMS: dict[str, tuple[list[str], dict[str, str]]] = {
    "segmented": ([], {}),
    "full": (["--attention", "full"], {}),
    "segmented K=0": ([], {"RECALL_TRUNCATION": "0"}),
    "another policy": ([], {"RECALL_CUTS": "fixed"}),
}


def train(arm: str, seed: int, steps: int) -> Path:
    """The folder of a trained checkpoint; a training that was stopped resumes."""
    options, variables = ARMS[arm]
    out = RUNS / f"recall-adds-{list(ARMS).index(arm)}-{seed}-{steps}"
    state = out / "training" / "state.json"
    if state.is_file() and json.loads(state.read_text())["progress"]["step"] >= steps:
        return out
    command = ["node", str(ROOT / "dist/cli/main.js"), "train", *options, "--out", str(out)]
    command += ["--config", str(HERE / "lockstep.config.ts"), "--seed", str(seed), "--json"]
    command += ["--steps", str(steps), "--save-every", "10", "--keep", "1"]
    command += ["--resume"] if state.is_file() else ["--overwrite"]
    with (RUNS / f"{out.name}.jsonl").open("a") as log:
        subprocess.run(command, stdout=log, env=os.environ | variables, check=True)
    return out


def main() -> None:
    take = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    take.add_argument("--seeds", default="0,1,2")
    take.add_argument("--steps", type=int, default=20)
    arms = ", ".join([UNTRAINED, *ARMS])
    take.add_argument("--arms", default="untrained,segmented,full", help=f"of {arms}")
    take.add_argument("--lengths", default="2048")
    take.add_argument("--documents", type=int, default=8)
    asked = take.parse_args()
    torch.set_num_threads(1)
    for seed in map(int, asked.seeds.split(",")):
        for arm in asked.arms.split(","):
            if arm == UNTRAINED and seed:
                continue
            if arm != UNTRAINED:
                print("training", arm, seed, flush=True)
                train(arm, seed, asked.steps)
            for length in map(int, asked.lengths.split(",")):
                evaluate(asked, arm, seed, length)


def evaluate(asked: argparse.Namespace, arm: str, seed: int, length: int) -> None:
    """Ask one model for the needles of every document; answers in the file are not repeated."""
    steps = 0 if arm == UNTRAINED else asked.steps
    out = HERE.parent / "raw" / f"adds-{length}.jsonl"
    lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    have = {(one["arm"], one["seed"], one["steps"], one["document"]) for one in lines}
    base = load(RUNS / PLAIN)
    maker = eval_maker(base.contract.document["tokenizer"]["bos"])
    facts = header(f"python bench/recall/training/{Path(__file__).name}")
    module = base.module if arm == UNTRAINED else load_module(train(arm, seed, asked.steps))
    model = Model(module, base.spec, base.contract)
    runs = {"full": ask.full_attention, "segmented": ask.segmented}
    for index in range(asked.documents):
        if (arm, seed, steps, index) in have:
            continue
        document = maker.make(f"42/{length}/{index}", length, DEPTHS)
        answers: dict[str, Any] = {}
        for name, run in runs.items():
            found = run(model, document)
            answers[name] = [{"recalled": one.recalled, "logp": one.logp} for one in found]
        line = {"arm": arm, "seed": seed, "steps": steps, "document": index}
        with out.open("a") as file:
            file.write(json.dumps(line | {"answers": answers} | facts) + "\n")
    print(length, arm, seed, "asked", flush=True)


if __name__ == "__main__":
    main()
