"""The probe of a checkpoint: a short sequence and what the trainer's forward said of it.

``probe.json`` is next to the contract. An engine runs its tokens before it serves and must come
to the same log-probabilities (src/engines/probe.ts for onnx and torch, vllm/probe.py for vLLM). It
belongs to one contract and one set of weights and says which.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bridge import job
from ..contract.reader import Contract, read
from ..errors import LockstepError

if TYPE_CHECKING:
    import torch

    from ..operator.model import Model
    from ..weights.adapter import Adapter

PROBE_FILE = "probe.json"
FORMAT = 1
BEST = 20  # log-probabilities that are kept at a position
LEAST = 200  # tokens that a probe has at least
BEYOND = 32  # tokens after the second boundary
#: A text on which rounding decides what is retrieved is no probe: with the embeddings of its tokens
#: changed by this share (some ten times the step of float32) no log-probability may move by more.
SHARE, STEADY = 1e-6, 5e-4
REMAKE = "Record it again: lockstep probe DIR"


@dataclass(frozen=True)
class Row:
    """What the trainer gave to the tokens that may follow ``position``, best first (nats)."""

    position: int
    ids: tuple[int, ...]
    logp: tuple[float, ...]


@dataclass(frozen=True)
class Probe:
    """``tokens`` [T] from position 0 on; ``boundaries`` are the cuts e_i <= T of the contract."""

    digest: str
    weights: str | None
    tokens: tuple[int, ...]
    boundaries: tuple[int, ...]
    rows: tuple[Row, ...]

    def upto(self, length: int) -> Probe:
        """The part that an engine for at most ``length`` tokens can run."""
        rows = tuple(row for row in self.rows if row.position < length)
        cuts = tuple(cut for cut in self.boundaries if cut <= length)
        return Probe(self.digest, self.weights, self.tokens[:length], cuts, rows)


@dataclass(frozen=True)
class Distance:
    """How far an engine is from a probe, in nats: over all rows, and at the worst place."""

    largest: float
    mean: float
    position: int
    token: int
    expected: float
    got: float


def load(folder: str | Path, contract: Contract, weights: str | None = None) -> Probe | None:
    """The probe beside a contract; None where there is none.

    weights: whose it has to be, where not the contract's own: an adapter's (`Adapter.sha256`).
    Raises ``LS_PROBE_FILE`` for a file that is no probe, ``LS_PROBE_STALE`` for one of another
    contract or of other weights.
    """
    file = Path(folder) / PROBE_FILE
    try:
        probe = _parsed(json.loads(file.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LockstepError(
            "LS_PROBE_FILE",
            f"expected a probe in {file}, got {type(error).__name__}: {error}",
            REMAKE,
        ) from error
    for what, ours, theirs in (
        ("contract", contract.digest, probe.digest),
        ("weights", weights or weights_of(contract), probe.weights),
    ):
        if ours != theirs:
            raise LockstepError(
                "LS_PROBE_STALE",
                f"expected a probe of the {what} {ours or '(none recorded)'}, got one of "
                f"{theirs or '(none recorded)'} ({PROBE_FILE})",
                REMAKE,
                what,
            )
    return probe


def weights_of(contract: Contract) -> str | None:
    """The identity of the weights that the contract names; None for one that names none."""
    weights = (contract.document.get("trained") or {}).get("weights") or {}
    return weights.get("sha256")


def _parsed(value: Any) -> Probe:
    if value["probe"] != FORMAT:
        raise ValueError(f"expected format {FORMAT}, got {value['probe']!r}")
    rows = [
        Row(one["position"], tuple(one["ids"]), tuple(map(float, one["logp"])))
        for one in value["rows"]
    ]
    tokens = tuple(value["tokens"])
    fits = all(
        0 <= row.position < len(tokens)
        and 0 < len(row.ids) == len(row.logp)
        and all(math.isfinite(one) for one in row.logp)
        for row in rows
    )
    if not rows or not fits:
        raise ValueError("expected rows of ids and log-probabilities within the tokens")
    cuts = tuple(value["boundaries"])
    return Probe(value["digest"], value["weights"], tokens, cuts, tuple(rows))


def distance(probe: Probe, logp_PV: torch.Tensor) -> Distance:
    """How far log-probabilities [P, V], a row for each of ``probe.rows``, are from the probe.

    Numbers that are none are infinitely far.
    """
    total, count, worst = 0.0, 0, Distance(-1.0, 0.0, 0, 0, 0.0, 0.0)
    for row, own_V in zip(probe.rows, logp_PV, strict=True):
        for token, expected in zip(row.ids, row.logp, strict=True):
            got = float(own_V[token])
            off = abs(got - expected) if math.isfinite(got) else math.inf
            total, count = total + off, count + 1
            if off > worst.largest:
                worst = Distance(off, 0.0, row.position, token, expected, got)
    return Distance(
        worst.largest, total / count, worst.position, worst.token, worst.expected, worst.got
    )


# Recording


def record(folder: str | Path, model: Model | None = None) -> dict[str, Any]:
    """Write the probe of a checkpoint; ``{path, tokens, boundaries, positions, milliseconds}``.

    model: the checkpoint in float32, where it is loaded already. Raises what `loader.load` raises.
    """
    from ..loader import load as load_model

    started = time.monotonic()
    if model is None:
        model = load_model(folder)
    contract: Contract = model.contract
    ids, cuts, logp_PV = _steady(model)
    rows = []
    for position, logp_V in zip(_checked(len(ids), cuts), logp_PV, strict=True):
        best = logp_V.topk(min(BEST, len(logp_V)))
        found = {"ids": best.indices.tolist(), "logp": best.values.tolist()}
        rows.append({"position": position, **found})
    document = {
        "probe": FORMAT,
        "digest": contract.digest,
        "weights": weights_of(contract),
        "dtype": "float32",
        "tokens": ids,
        "boundaries": cuts,
        "rows": rows,
    }
    path = Path(folder) / PROBE_FILE
    _write(path, document)
    return {
        "path": str(path),
        "tokens": len(ids),
        "boundaries": len(cuts),
        "positions": len(rows),
        "milliseconds": round(1000 * (time.monotonic() - started)),
    }


def record_adapter(folder: str | Path, adapter: Adapter) -> None:
    """Write the probe of an adapter: that of the checkpoint ``folder``, which has it merged in."""
    document = json.loads((Path(folder) / PROBE_FILE).read_bytes())
    _write(adapter.folder / PROBE_FILE, {**document, "weights": adapter.sha256})


def current(folder: str | Path, contract: Contract) -> bool:
    """Whether ``folder`` has a probe of this contract and these weights.

    Such a probe is kept: a new one would also match weights that were changed since.
    """
    try:
        return load(folder, contract) is not None
    except LockstepError:
        return False


def _write(path: Path, document: dict[str, Any]) -> None:
    rows = ",\n".join(f"  {json.dumps(row)}" for row in document["rows"])
    head = ",\n".join(
        f" {json.dumps(name)}: {json.dumps(value)}"
        for name, value in document.items()
        if name != "rows"
    )
    new = path.with_name(f".{PROBE_FILE}.{os.getpid()}")
    try:
        new.write_text(f'{{\n{head},\n "rows": [\n{rows}\n ]\n}}\n', encoding="utf-8")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise LockstepError(
            "LS_PROBE_WRITE",
            f"expected to write {path}, got {error.strerror or type(error).__name__}",
            "Make the folder writable, or record the probe before you move the checkpoint.",
        ) from error


def sequences(model: Model) -> Iterator[tuple[list[int], list[int]]]:
    """Sequences that a probe can be made of, with their cuts: the contract's golden ones, joined.

    Each has LEAST tokens and BEYOND after its second boundary, or as many as two segments of the
    largest length may take.
    """
    document = model.contract.document
    golden = [one["tokens"] for one in document["golden"]]
    bos = document["tokenizer"]["bos"]
    most = max(LEAST, 2 * model.spec.max + 2 * BEYOND)
    for first in range(len(golden)):
        joined = [token for part in (*golden[first:], *golden[:first]) for token in part]
        ids = ([] if bos is None else [bos]) + joined * -(-most // len(joined))
        ids = ids[:most]
        cuts = model.plan(ids)
        if len(cuts) >= 2:
            ids = ids[: max(LEAST, cuts[1] + BEYOND)]
        yield ids, [cut for cut in cuts if cut <= len(ids)]


def _steady(model: Model) -> tuple[list[int], list[int], torch.Tensor]:
    """The first sequence that rounding does not change: ids, cuts, log p [P, V] in float64."""
    least = math.inf
    for ids, cuts in sequences(model):
        logp_PV, retrieved = _forward(model, ids, cuts)
        if not bool(logp_PV.isfinite().all()):
            raise LockstepError(
                "LS_PROBE_NUMBERS",
                "expected log-probabilities from the training forward, got NaN",
                "The weights are damaged, or a training diverged: take an earlier checkpoint.",
            )
        with _Shaken(model, ids):
            other_PV, retrieved_again = _forward(model, ids, cuts)
        best_PB = logp_PV.topk(min(BEST, logp_PV.shape[1])).indices
        moved = float((logp_PV - other_PV).gather(1, best_PB).abs().max())
        if retrieved == retrieved_again and moved <= STEADY:
            return ids, cuts, logp_PV
        least = min(least, moved)
        job.check_cancelled()
    raise LockstepError(
        "LS_PROBE_UNSTEADY",
        f"expected rounding to change log-probabilities by at most {STEADY:g} nats, got "
        f"{least:.2g} on the most stable of the contract's golden sequences",
        "Serve without a probe and check with lockstep verify, or choose another retrieval.size.",
    )


def _forward(model: Model, ids: list[int], cuts: list[int]) -> tuple[torch.Tensor, Any]:
    """Log p [P, V] at the positions that are kept, and what each boundary retrieved."""
    import torch

    from ..operator import lm_head

    trace = model.trace(ids, cuts)
    with torch.no_grad():
        logits_PV = lm_head.logits(model.head, trace.hidden[_checked(len(ids), cuts)])
    # What a boundary at the very end would retrieve, nobody sees.
    seen = [one for one in trace.boundaries if one.at < len(ids)]
    return logits_PV.double().log_softmax(-1), [
        (one.at, layer, found.tolist())
        for one in seen
        for layer, found in sorted(one.positions.items())
    ]


class _Shaken:
    """Meanwhile every embedding is off by a share of `SHARE`, equal tokens alike."""

    def __init__(self, model: Model, ids: Sequence[int]):
        self._embedding = model.module.get_input_embeddings()
        self._ids = ids

    def __enter__(self) -> None:
        import torch

        _, which_T = torch.tensor(self._ids).unique(return_inverse=True)
        generator = torch.Generator().manual_seed(1)

        def shake(_module: Any, _inputs: Any, out: torch.Tensor) -> torch.Tensor:
            noise_NE = torch.randn(int(which_T.max()) + 1, out.shape[-1], generator=generator)
            noise_TE = noise_NE[which_T].to(out)
            return out * (1 + SHARE * noise_TE)

        self._hook = self._embedding.register_forward_hook(shake)

    def __exit__(self, *_: object) -> None:
        self._hook.remove()


def _checked(length: int, cuts: Sequence[int]) -> list[int]:
    """Positions whose log-probabilities are kept: around boundaries, at the end, and between."""
    near = [at + d for at in cuts[:2] for d in range(-2, 6)]
    even = [length * i // 9 for i in range(1, 9)]
    chosen = {*range(2), *near, *even, *range(length - 8, length)}
    return sorted(at for at in chosen if 0 <= at < length)


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Job: record the probe of ``description["dir"]``."""
    read(description["dir"])
    return record(description["dir"])


if __name__ == "__main__":
    job.main(run)
