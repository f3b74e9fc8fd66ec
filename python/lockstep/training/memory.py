"""Memory of a training: how much there is, and which setting would fit when it runs out.

What a step keeps for its backward passes is estimated per token and layer of the K + 1 segments
whose graphs are alive. The estimate is only used for ratios: the step that failed is known to need
more than there was, and a proposal is a step that needs clearly less.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from lockstep.errors import LockstepError
from lockstep.operator.lm_head import CHUNK
from lockstep.operator.model import Model
from lockstep.training.data import TrainSequence
from lockstep.training.settings import Job, Settings

MARGIN = 0.75  # of the room: what a proposal may need by estimate
CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def used() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


def ran_out(error: BaseException) -> bool:
    """True where ``error`` says that memory ran out, on the CPU or on a GPU."""
    out_of_memory = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return out_of_memory or "can't allocate memory" in str(error)


def explained(job: Job, model: Model, parts: list[list[TrainSequence]]) -> LockstepError:
    """LS_TRAIN_MEMORY for a step of ``parts`` that did not fit: what to set instead."""
    limit, room = _room(model.device)
    s = job.training
    failed = _Step.of(job, model, s)
    lack = max(1.0, room / failed.bytes)
    for changes, step in _proposals(job, model, s):
        if step.bytes * lack <= MARGIN * room:
            names = ", ".join(f"training.{name} to {value}" for name, value in changes.items())
            restart = " It is another training: start over." if "truncation" in changes else ""
            fix = f"Set {names}: by estimate, that fits.{restart}"
            break
    else:
        fix = (
            "Nothing smaller would fit by estimate: train fewer parameters (training.lora), give "
            "the contract a smaller segment.max, or use a larger machine."
        )
    longest = max((len(doc.ids) for part in parts for doc in part), default=0)
    return LockstepError(
        "LS_TRAIN_MEMORY",
        f"expected a step to fit into {_text(limit)}, got no memory for training.batch {s.batch} "
        f"with sequences of up to {longest} tokens, segments of up to {model.spec.max} and "
        f"truncation {s.truncation}",
        fix,
        "training.batch",
    )


@dataclass(frozen=True)
class _Step:
    """Bytes that a step keeps beside weights, gradients and moments."""

    bytes: float

    @classmethod
    def of(cls, job: Job, model: Model, s: Settings) -> _Step:
        config = model.config
        heads = model.layout.q_heads + 2 * model.layout.kv_heads
        row = config.hidden_size
        inside = 8 * row + 4 * config.intermediate_size + 4 * heads * model.layout.head_dim
        segmented = job.attention == "segmented"
        length = min(s.sequence, model.spec.max) if segmented else s.sequence
        tokens = length * s.batch if segmented else length
        graphs = s.truncation + 1 if segmented else 1
        layers = config.num_hidden_layers
        kept = graphs * layers * row + inside if s.recompute else graphs * layers * inside
        size = 2 if s.precision == "bfloat16" else model.dtype.itemsize
        logits = 3 * CHUNK * config.vocab_size * model.dtype.itemsize
        return cls(float(tokens * kept * size + logits))


def _proposals(job: Job, model: Model, s: Settings) -> Any:
    """(what to change, the step that it makes), the least loss of speed first."""
    changes: dict[str, Any]
    # The same optimizer step in smaller parts; a control runs its sequences one by one anyway.
    if job.attention == "segmented":
        for batch in (n for n in range(s.batch - 1, 0, -1) if s.batch % n == 0):
            changes = {"batch": batch, "accumulate": s.accumulate * s.batch // batch}
            yield changes, _Step.of(job, model, replace(s, batch=batch))
    if not s.recompute:
        yield {"recompute": "true"}, _Step.of(job, model, replace(s, recompute=True))
        if s.batch > 1:
            changes = {"batch": 1, "accumulate": s.accumulate * s.batch, "recompute": "true"}
            yield changes, _Step.of(job, model, replace(s, batch=1, recompute=True))
    if s.truncation and job.attention == "segmented":
        least = replace(s, batch=1, recompute=True, truncation=0)
        changes = {"batch": 1, "accumulate": s.accumulate * s.batch, "recompute": "true"}
        yield {**changes, "truncation": 0}, _Step.of(job, model, least)


def _room(device: torch.device) -> tuple[float, float]:
    """Bytes that this process may use in all, and those of them that a step may use."""
    if device.type == "cuda":
        limit = float(torch.cuda.mem_get_info(device)[1])
        return limit, max(1.0, limit - torch.cuda.memory_allocated(device))
    process = psutil.Process().memory_info()
    limits = [(float(psutil.virtual_memory().total), float(process.rss))]
    for path in CGROUP:
        if path.is_file() and (text := path.read_text().strip()).isdigit():
            limits.append((float(text), float(process.rss)))
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address_space != resource.RLIM_INFINITY:
        limits.append((float(address_space), float(process.vms)))
    limit, taken = min(limits, key=lambda pair: pair[0] - pair[1])
    return limit, max(1.0, limit - taken)


def _text(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
