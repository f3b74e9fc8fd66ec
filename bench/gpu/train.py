"""Does training in segments pay? Arms trained by the product's trainer, evaluated one by one.

usage: python bench/gpu/train.py --out FILE.jsonl [--dry | --checkpoint DIR --tokens DIR]
           [--seconds N]

Rows are appended as they are measured: one for each arm's training, one for each way and task of
its evaluation. Arms that the file holds already are passed over, so a cut-off run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(ROOT / "python")]

import documents  # noqa: E402
import inputs  # noqa: E402
import specs  # noqa: E402
import torch  # noqa: E402
from evaluate import Bench, evaluated  # noqa: E402
from lockstep.loader import load_module  # noqa: E402
from lockstep.training.distributed import Ranks  # noqa: E402
from lockstep.training.schedule import learning_rate  # noqa: E402
from lockstep.training.settings import read_job  # noqa: E402
from lockstep.training.train_state import TrainState  # noqa: E402

PEAK, WARMUP, FINAL = 2e-4, 0.05, 0.1


def job(checkpoint: Path, arm: str, seed: int, sizes: specs.Sizes, device: str) -> Any:
    attention, _, truncation, _ = specs.ARMS[arm]
    texts: dict = {"format": "auto", "field": "text", "loss": "assistant", "end": False}
    texts |= {"long": "cut", "pack": None, "skipBroken": False, "cache": None, "workers": 0}
    training = {
        "data": [],
        "heldOut": None,
        "texts": {**texts, "heldOutDocuments": 0, "recall": None},
        "heldOutTokens": 0,
        "truncation": truncation,
        "sequence": sizes.sequence,
        "batch": sizes.batch,
        "accumulate": 1,
        "learningRate": PEAK,
        "schedule": "cosine",
        "warmup": WARMUP,
        "finalRate": FINAL,
        "weightDecay": 0.0,
        "clip": 1.0,
        "trainable": "all",
        "lora": None,
        "dpo": None,
        "precision": "bfloat16" if device == "cuda" else "float32",
        "recompute": False,
        "seed": seed,
        "steps": sizes.steps,
        "minutes": None,
        "saveMinutes": None,
        "saveEvery": None,
        "keep": None,
        "validateEvery": None,
        "spike": 0.0,
        "patience": 1,
    }
    place = {"model": checkpoint, "base": checkpoint, "out": checkpoint, "root": checkpoint}
    return read_job(
        {
            **{name: str(path) for name, path in place.items()},
            "attention": attention,
            "resume": False,
            "overwrite": False,
            "device": device,
            "plot": None,
            "logs": None,
            "processes": 1,
            "shard": False,
            "training": training,
        }
    )


class Run:
    """The rows so far, the time that is left, and what all arms share."""

    def __init__(self, args: argparse.Namespace, given: inputs.Inputs, device: str):
        self.out, self.inputs, self.device = args.out, given, device
        self.sizes = specs.DRY if args.dry else specs.Sizes()
        self.end = time.monotonic() + args.seconds
        self.rows: list[dict[str, Any]] = []
        if self.out.is_file():
            self.rows = [json.loads(line) for line in self.out.read_text().splitlines()]
        needles = documents.needles(
            given.encode, given.held, self.sizes.lengths, self.sizes.samples
        )
        self.bench = Bench(given, self.sizes, needles, self.late)
        if not self.rows:
            facts = dataclasses.asdict(self.sizes) | {"far": self.sizes.far, "peakRate": PEAK}
            self.write({"settings": facts | {"dry": args.dry}})

    def late(self) -> bool:
        return time.monotonic() > self.end

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        short = {k: v for k, v in row.items() if k != "needles"}
        print(json.dumps(short), flush=True)

    def done(self, seed: int, arm: str) -> bool:
        return any(r.get("done") and (r["seed"], r["arm"]) == (seed, arm) for r in self.rows)

    def speed(self) -> float | None:
        """Tokens a second of the first segmented arm."""
        found = [r["tokensPerSecond"] for r in self.rows if r.get("arm") == "A4" and "loss" in r]
        return found[0] if found else None

    def evaluate(self, seed: int, arm: str, module: Any) -> None:
        whole = True
        for row in evaluated(module, arm, self.bench):
            whole &= not {"skipped", "error", "partial"} & row.keys()
            self.write({"seed": seed, "arm": arm, **row})
        if whole:
            self.write({"seed": seed, "arm": arm, "done": True})

    def arm(self, seed: int, arm: str) -> None:
        sizes = self.sizes
        read = specs.document(specs.spec(self.layers(), sizes, specs.ARMS[arm][1]))
        batches = documents.training(
            seed,
            self.inputs.encode,
            self.inputs.train,
            steps=sizes.steps,
            batch=sizes.batch,
            length=sizes.sequence,
            segment=sizes.segment,
        )
        train_state = TrainState(
            job(self.inputs.checkpoint, arm, seed, sizes, self.device), read, Ranks(), False
        )
        losses, tokens, began = [], 0, time.monotonic()
        for step, docs in enumerate(batches):
            if self.late():
                self.write({"seed": seed, "arm": arm, "skipped": "training", "steps": step})
                return
            rate = learning_rate((step + 1) / sizes.steps, PEAK, WARMUP, FINAL)
            loss, _, count = train_state.step(docs, rate)
            losses.append(loss)
            tokens += count
        seconds = time.monotonic() - began
        row = {"loss": losses, "tokens": tokens, "tokensPerSecond": tokens / seconds}
        self.write({"seed": seed, "arm": arm, "seconds": seconds, **row})
        module = train_state.module
        del train_state
        self.evaluate(seed, arm, module)

    def layers(self) -> int:
        config = json.loads((self.inputs.checkpoint / "config.json").read_text("utf-8"))
        return int(config["num_hidden_layers"])

    def all(self) -> None:
        if not self.done(-1, "untrained"):
            self.evaluate(-1, "untrained", load_module(self.inputs.checkpoint, device=self.device))
        for seed, arm in specs.order(self.sizes.seeds):
            if self.done(seed, arm):
                continue
            if self.late():
                self.write({"seed": seed, "arm": arm, "skipped": "arm", "reason": "time"})
                continue
            speed = self.speed()
            # Speed on a CPU says nothing: the dry run runs every arm.
            if arm == "A4K0" and self.device == "cuda" and speed and speed < specs.SLOW:
                reason = f"{speed:.0f} tokens/s"
                self.write({"seed": seed, "arm": arm, "skipped": "arm", "reason": reason})
                continue
            try:
                self.arm(seed, arm)
            except Exception as error:  # one arm never stops the next
                text = f"{type(error).__name__}: {error}"[:400]
                self.write({"seed": seed, "arm": arm, "error": text})
            if self.device == "cuda":
                torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--seconds", type=float, default=405)
    args = parser.parse_args()
    if not args.dry and (args.checkpoint is None or args.tokens is None):
        parser.error("expected --checkpoint and --tokens, or --dry")
    if not args.dry and not torch.cuda.is_available():
        parser.error("expected a CUDA device, got none; try --dry")
    if args.dry:
        with tempfile.TemporaryDirectory() as folder:
            Run(args, inputs.dry(Path(folder)), "cpu").all()
        return
    Run(args, inputs.opened(args.checkpoint, args.tokens), "cuda").all()


if __name__ == "__main__":
    main()
