"""Gradients of one optimizer step of a tiny model in float64, alone or as one of several ranks.

As a program (`python rank_cases.py FOLDER`, with the variables of torchrun) it is one rank: rank 0
writes what every case gave to FOLDER/NAME.safetensors.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lockstep.training import sharded
from lockstep.training.data import TrainSequence
from lockstep.training.distributed import Ranks, init_process_group
from lockstep.training.settings import Job, read_job
from lockstep.training.train_state import TrainState
from safetensors.torch import save_file

#: Of four layers with two KV heads: one long head everywhere, two layers that retrieve.
CONTRACT = {
    "segment": {"min": 4, "max": 16, "align": 1},
    "carry": {"size": 6, "sinks": 3},
    "retrieval": {"size": 8, "recipe": "anchors", "layers": [1, 2]},
    "heads": {"long": [[1]] * 4},
}
TEXTS = {
    "format": "auto", "field": "text", "loss": "assistant", "end": None, "long": "cut",
    "pack": None, "skipBroken": False, "cache": None, "workers": 0, "heldOutDocuments": 1,
    "recall": None,
}  # fmt: skip
#: Lengths of the segments of each sequence: rank 0 of 2 has the first and the third.
SEGMENTS = [[9, 16, 4, 7, 12], [5], [8, 8, 3], [16, 11], [10, 6, 9]]


@dataclass(frozen=True)
class Case:
    name: str
    sequences: int = 4
    batch: int = 2
    truncation: int = 1
    shard: bool = False
    attention: str = "segmented"
    recompute: bool = False
    lora: bool = False
    clip: float = 0.0


CASES = [
    Case("ddp-k0", truncation=0),
    Case("ddp-k1-clipped", clip=0.01),
    Case("ddp-k2-uneven", sequences=5, truncation=2),
    Case("ddp-one-idle-part", sequences=3, batch=1),
    Case("ddp-lora", lora=True),
    Case("ddp-full", attention="full"),
    Case("ddp-recompute", recompute=True, truncation=2),
    Case("fsdp-k0", shard=True, truncation=0),
    Case("fsdp-k1-clipped", shard=True, clip=0.01),
    Case("fsdp-k2-uneven", shard=True, sequences=5, truncation=2),
    Case("fsdp-one-idle-part", shard=True, sequences=3, batch=1),
    Case("fsdp-lora", shard=True, lora=True),
    Case("fsdp-full", shard=True, attention="full", sequences=3),
    Case("fsdp-recompute", shard=True, recompute=True, truncation=2),
]


def drawn(index: int) -> TrainSequence:
    lengths = SEGMENTS[index]
    generator = torch.Generator().manual_seed(index)
    ids = torch.randint(264, (sum(lengths),), generator=generator).tolist()
    cuts = [sum(lengths[: n + 1]) for n in range(len(lengths) - 1)]
    return TrainSequence(ids, cuts)


def job(folder: Path, case: Case, world: int) -> Job:
    base = str(folder / "base")
    settings: dict[str, Any] = {
        "data": [], "heldOut": None, "texts": TEXTS,
        "heldOutTokens": 8, "truncation": case.truncation,
        "sequence": 64, "batch": case.batch, "accumulate": -(-case.sequences // case.batch),
        "learningRate": 1e-2, "schedule": "cosine", "warmup": 0.0, "finalRate": 0.1,
        "weightDecay": 0.01, "clip": case.clip, "trainable": [] if case.lora else "all",
        "lora": {"rank": 3, "alpha": 6, "modules": ["q_proj", "k_proj", "down_proj"]},
        "dpo": None, "precision": "float32", "recompute": case.recompute, "seed": 0, "steps": 1,
        "minutes": None, "saveMinutes": None, "saveEvery": None, "keep": 1, "validateEvery": None,
        "spike": 2.0, "patience": 16,
    }  # fmt: skip
    if not case.lora:
        settings["lora"] = None
    return read_job(
        {
            "model": base,
            "base": base,
            "out": str(folder / "out"),
            "root": base,
            "attention": case.attention,
            "resume": False,
            "overwrite": False,
            "device": "cpu",
            "plot": None,
            "logs": None,
            "processes": world,
            "shard": case.shard and world > 1,
            "training": settings,
        }
    )


def outcome(folder: Path, case: Case, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Loss, norm, gradient of every trained parameter, and the weights after the step."""
    train_state = TrainState(job(folder, case, ranks.world_size), CONTRACT, ranks, False, "float64")
    if case.lora:
        # B is zero at first, and so would be the gradient of A.
        for name, parameter in sorted(train_state.parameters.items()):
            if ".lora_B." in name:
                generator = torch.Generator().manual_seed(len(name))
                value = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                with torch.no_grad():
                    parameter.copy_(sharded.shard_like(value, parameter))
    shards = [n for n, p in train_state.parameters.items() if sharded.is_shard(p)]
    layers = [n for n in train_state.parameters if ".layers." in n]
    assert shards == (layers if train_state.job.shard else [])
    docs = [drawn(n) for n in range(case.sequences) if n % ranks.world_size == ranks.rank]
    loss, norm, tokens = train_state.gradient(docs)
    found = {
        f"grad.{n}": sharded.full_tensor(p.grad)
        for n, p in train_state.parameters.items()
        if p.grad is not None
    }
    assert len(found) == len(train_state.parameters)
    train_state.optimizer.step()
    snapshot = train_state.snapshot()
    if train_state.job.shard:
        # A resumption shares out again what was saved whole.
        again = TrainState(train_state.job, CONTRACT, ranks, False, "float64")
        again.restore(snapshot.moments)
        for name, value in again.snapshot().moments.items():
            assert torch.equal(value, snapshot.moments[name]), name
    weights = snapshot.weights or train_state.module.state_dict()
    found |= {f"weight.{n}": w.clone() for n, w in weights.items()}
    found |= {f"moment.{n}": w.double() for n, w in snapshot.moments.items()}
    return found | {"said": torch.tensor([loss, norm, tokens], dtype=torch.float64)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    ranks = init_process_group("cpu")
    for case in CASES:
        found = outcome(folder, case, ranks)
        if ranks.is_main_process:
            save_file(
                {k: v.detach().contiguous() for k, v in found.items()},
                folder / f"{case.name}.safetensors",
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
