"""The probe in vLLM: before its server opens, the engine runs the checkpoint's own probe.

It goes the way of every request: scheduler, chunks, paged caches, all ranks of tensor parallelism.
What is compared is the last hidden states that the model gave for the checked positions, put
through its own head; so no client's limit on log-probabilities matters, and the logits of no more
than some forty rows are alive.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..contract.reader import Contract
from ..errors import LockstepError
from ..verification import probe

if TYPE_CHECKING:
    from torch import Tensor

    from .step import SegmentEnd
    from .tracker import QuerySpan

#: `0`: do not run it. Set by `lockstep serve --no-probe`.
SWITCH = "LOCKSTEP_PROBE"
#: By what vLLM computes in: the largest |dlogp| allowed, or the mean (nats). docs/verify.md says
#: how they were set.
BOUNDS = {"float32": ("largest", 2e-3), "bfloat16": ("mean", 0.3)}


@dataclass(frozen=True)
class Outcome:
    """What became of a probe: ``passed``, ``skipped`` (asked for), ``absent``, ``short``.

    ``short``: the engine takes fewer tokens than the first checked position needs. ``off`` is in
    nats and of the kind that the bound limits.
    """

    status: str
    tokens: int = 0
    boundaries: int = 0
    positions: int = 0
    off: float | None = None
    bound: float | None = None
    kind: str | None = None
    milliseconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Rows:
    """Watches a worker that runs the probe alone, and keeps hidden states of the rows asked for."""

    def __init__(self, positions: Sequence[int]):
        self._wanted = set(positions)
        self._spans: Sequence[QuerySpan] = ()
        self._hidden: dict[int, Tensor] = {}

    def cut(self, spans: Sequence[QuerySpan]) -> None:
        self._spans = spans

    def replace_retrieved(self, layer: int, closing: SegmentEnd, positions_HR: Tensor) -> Tensor:
        return positions_HR

    def ran(self, hidden_TE: Tensor) -> None:
        for span in self._spans:
            for at in self._wanted.intersection(range(span.a, span.b)):
                self._hidden[at] = hidden_TE[span.flat + at - span.a].clone()

    def hidden(self) -> Tensor:
        """[P, E], by position. Raises ``LS_PROBE_MISMATCH`` where a position never ran."""
        import torch

        absent = sorted(self._wanted - self._hidden.keys())
        if absent:
            raise LockstepError(
                "LS_PROBE_MISMATCH",
                f"expected every token of the probe to run, got none at position {absent[0]}",
                "Report this with the settings of vLLM.",
            )
        return torch.stack([self._hidden[at] for at in sorted(self._wanted)])


def measured(
    model: Any, folder: str, length: int, weights: str | None = None
) -> dict[str, Any] | None:
    """On a worker, once the probe ran: how far its log-probabilities are off.

    folder, weights: where the probe is, and whose it has to be (`verification.probe.load`). None
    on a rank that gets no logits: its share of them is in rank 0's.
    """
    import torch

    rows = model.segments.observer
    model.segments.observer = None
    with torch.inference_mode():
        logits_PV = model.compute_logits(rows.hidden())
    if logits_PV is None:
        return None
    stored = probe.load(folder, model.contract, weights)
    assert stored is not None
    logp_PV = logits_PV.double().log_softmax(-1).cpu()
    return asdict(probe.distance(stored.upto(length), logp_PV))


async def run(
    engine: Any, contract: Contract, lora: Any = None, weights: str | None = None
) -> Outcome:
    """Run the checkpoint's probe through an engine that nobody else uses yet.

    lora, weights: an adapter's request (`LoRARequest`) and identity, whose probe it then is.
    Raises ``LS_PROBE_MISMATCH`` where the numbers are not the trainer's, ``LS_PROBE_FILE`` and
    ``LS_PROBE_STALE`` for a probe that is none of this checkpoint's.
    """
    from vllm import SamplingParams

    if os.environ.get(SWITCH) == "0":
        return Outcome("skipped")
    config = engine.vllm_config.model_config
    folder = config.model if lora is None else lora.lora_path
    stored = probe.load(folder, contract, weights)
    if stored is None:
        return Outcome("absent")
    # One token more is sampled.
    fitting = stored.upto(config.max_model_len - 1)
    if not fitting.rows:
        return Outcome("short")
    began = time.monotonic()
    length = len(fitting.tokens)
    await engine.collective_rpc("lockstep_probe", args=([row.position for row in fitting.rows],))
    sampling = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False)
    prompt = {"prompt_token_ids": list(fitting.tokens)}
    async for _ in engine.generate(prompt, sampling, "lockstep-probe", lora_request=lora):
        pass
    told = await engine.collective_rpc("lockstep_probed", args=(length, folder, weights))
    # A client's first prompt finds the cache as it would without the probe.
    await engine.reset_prefix_cache()
    found = [probe.Distance(**one) for one in told if one is not None]
    dtype = str(config.dtype).removeprefix("torch.")
    kind, bound = BOUNDS[dtype]
    name = "" if lora is None else f", adapter {lora.lora_name}"
    off = judge(found, kind, bound, f"vllm {dtype}{name}")
    return Outcome(
        "passed",
        length,
        len(fitting.boundaries),
        len(fitting.rows),
        off,
        bound,
        kind,
        round(1000 * (time.monotonic() - began), 1),
    )


def judge(found: Sequence[probe.Distance], kind: str, bound: float, engine: str) -> float:
    """How far the worst engine process is off, in nats. Raises ``LS_PROBE_MISMATCH`` beyond
    ``bound``, and where no process told anything."""
    if not found:
        raise LockstepError(
            "LS_PROBE_MISMATCH",
            "expected an engine process to measure the probe, got no logits from any",
            "Report this with the settings of vLLM.",
        )
    worst = max(found, key=lambda one: getattr(one, kind))
    off = float(getattr(worst, kind))
    if not (off <= bound and math.isfinite(off)):
        mean = f"on average {worst.mean:.3g} nats off, " if kind == "mean" else ""
        raise LockstepError(
            "LS_PROBE_MISMATCH",
            f"expected the trainer's log-probabilities within {bound:g} nats ({kind}, {engine}), "
            f"got {mean}{worst.got:.6g} instead of {worst.expected:.6g} for token {worst.token} "
            f"after position {worst.position} of {probe.PROBE_FILE}",
            "The weights are not those that the probe was recorded with, or this vLLM computes "
            "something else: lockstep verify DIR --against vllm says where; after a change of "
            "weights on purpose, lockstep probe DIR",
        )
    return off
