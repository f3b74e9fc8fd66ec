"""A step that runs out of memory, then the same step as the error proposes it, under one limit.

Prints JSON: the error, and the loss of the proposed step. A process of its own, as the limit holds
for all of it.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import rank_cases
import torch
from lockstep.errors import LockstepError
from lockstep.training.data import TrainSequence
from lockstep.training.distributed import Ranks
from lockstep.training.train_state import TrainState

BATCH, LENGTH = 32, 1024
ROOM = 200 << 20


def train_state(folder: Path, **changes: Any) -> TrainState:
    job = rank_cases.job(folder, rank_cases.Case("memory", sequences=BATCH, batch=BATCH), 1)
    job = replace(job, training=replace(job.training, sequence=LENGTH, **changes))
    contract = {**rank_cases.CONTRACT, "segment": {"min": 4, "max": 512, "align": 1}}
    return TrainState(job, contract, Ranks(), False)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    docs = [
        TrainSequence(torch.randint(264, (LENGTH,), generator=generator).tolist(), [512])
        for _ in range(BATCH)
    ]
    greedy = train_state(folder)
    greedy.gradient([TrainSequence(doc.ids[:64], [32]) for doc in docs[:2]])  # made once
    greedy.optimizer.zero_grad()
    limit = psutil.Process().memory_info().vms + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        greedy.gradient(docs)
    except LockstepError as error:
        found = error.as_dict()
    else:
        raise AssertionError("the step fitted: the test shows nothing")
    del greedy
    pairs = re.findall(r"training\.(\w+) to (\w+)", found["fix"])
    changes = {
        name: value == "true" if name == "recompute" else int(value) for name, value in pairs
    }
    loss, _, tokens = train_state(folder, **changes).gradient(docs)
    print(json.dumps({"error": found, "changes": changes, "loss": loss, "tokens": tokens}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
