"""Job: vLLM over a text, written to files that Node compares with the trainer's.

Most of the text is a prompt, computed in chunks as a server's are; the end of it is decoded token
by token, each next token forced, so that both ways through the engine are compared. The engine
runs in this process: what its scheduler cut, what its worker cut and what its layers retrieved can
be read, and where a layer retrieved otherwise than the trainer, the trainer's rows are put in their
place (SEMANTICS.md 4).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import job
from ..errors import LockstepError

if TYPE_CHECKING:
    from torch import Tensor

    from .step import Closing
    from .tracker import Piece

DECODED = 256  # tokens at the end of the text that are decoded one by one
LISTED = 64  # log-probabilities that vLLM is asked for at a position

#: What the forced decoding is fed, for the processor that vLLM makes by itself.
_forced: list[int] = []


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Run vLLM in float32 and write what is compared.

    ``description``: ``{dir, ids, best, bestIds, retrieved, out}``; ``bestIds`` names the trainer's
    file of int32 [T, best], ``retrieved`` what it retrieved: ``[{at, layers: [{layer,
    positions}]}]``. Written under ``out``: ``vllm-logp.f64`` [T, 1 + best], log p of the next token
    (0 at the last position) and of the trainer's best, and ``vllm-argmax.i32`` [T]. A token that is
    not among the LISTED best of vLLM stands with the last listed one's log p, which it is below.

    Returns ``{digest, boundaries, scheduled, retrieved, decoded}``: the cuts of the worker and of
    the scheduler, and what vLLM itself would have retrieved.
    Raises ``LS_VLLM_MISSING``, ``LS_VLLM_START``, and what the plugin's checks refuse.
    """
    llm, ids = _engine(description), description["ids"]
    (model,) = llm.collective_rpc(_model)
    watch = _Watch(model, description["retrieved"])
    tail = min(DECODED, len(ids) // 2)
    _forced[:] = ids[len(ids) - tail :]
    rows, told = _serve(llm, ids[: len(ids) - tail], tail)
    _write(rows, description)
    return {
        "digest": model.contract.digest,
        "boundaries": sorted(watch.cuts),
        "scheduled": told,
        "retrieved": watch.retrieved(),
        "decoded": tail,
    }


def _engine(description: dict[str, Any]) -> Any:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    os.environ["VLLM_PLUGINS"] = "lockstep"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    job.emit("progress", stage="starting vLLM", done=0, total=1)
    try:
        from vllm import LLM
    except ImportError as error:
        raise LockstepError(
            "LS_VLLM_MISSING",
            f"expected vLLM beside {sys.executable}, got: {error}",
            "npm run setup -- --vllm",
        ) from error
    from .forced import Forced

    Forced.tokens = _forced
    try:
        return LLM(
            model=description["dir"],
            dtype="float32",
            enforce_eager=True,
            max_model_len=len(description["ids"]) + 2,
            max_num_batched_tokens=1024,
            max_num_seqs=1,
            max_logprobs=LISTED,
            enable_prefix_caching=False,
            logits_processors=[Forced],
            disable_log_stats=True,
            seed=0,
        )
    except LockstepError:
        raise
    except Exception as error:  # vLLM raises whatever it met
        refused = _cause(error)
        if refused is not None:
            raise refused from error
        raise LockstepError(
            "LS_VLLM_START",
            f"expected vLLM to start, got {type(error).__name__}: {error}",
            "lockstep doctor; VLLM_LOGGING_LEVEL=INFO shows what vLLM does",
        ) from error


def _cause(error: BaseException | None) -> LockstepError | None:
    while error is not None:
        if isinstance(error, LockstepError):
            return error
        error = error.__cause__ or error.__context__
    return None


class _Watch:
    """Notes the worker's cuts and choices, and puts the trainer's choices in their place."""

    def __init__(self, model: Any, retrieved: list[dict[str, Any]]):
        self.cuts: set[int] = set()
        self._spec = model.segments.spec
        self._own: dict[tuple[int, int], list[list[int]]] = {}
        self._trainer = {
            (one["at"], layer["layer"]): layer["positions"]
            for one in retrieved
            for layer in one["layers"]
        }
        model.segments.watcher = self

    def cut(self, pieces: Sequence[Piece]) -> None:
        self.cuts.update(piece.b for piece in pieces if piece.closes)

    def chose(self, layer: int, closing: Closing, positions_HR: Tensor) -> Tensor:
        first = min(self._spec.sinks, closing.end)
        count = min(self._spec.retrieval_size, closing.end - first)
        own = (positions_HR[:, :count] - first).tolist()
        self._own[closing.end, layer] = own
        theirs = self._trainer.get((closing.end, layer))
        # A choice of another size has no room for the trainer's: it stays.
        if theirs is not None and theirs != own and len(theirs[0]) == count:
            positions_HR[:, :count] = positions_HR.new_tensor(theirs) + first
        return positions_HR

    def retrieved(self) -> list[dict[str, Any]]:
        by_end: dict[int, list[dict[str, Any]]] = {}
        for (at, layer), positions in sorted(self._own.items()):
            by_end.setdefault(at, []).append({"layer": layer, "positions": positions})
        return [{"at": at, "layers": layers} for at, layers in by_end.items()]


def _model(worker: Any) -> Any:
    return worker.get_model()


def _serve(llm: Any, prompt: list[int], tail: int) -> tuple[list[Any], list[int]]:
    """One request; its log-probabilities by position, and the scheduler's cuts."""
    from vllm import SamplingParams

    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=tail + 1,
        ignore_eos=True,
        detokenize=False,
        prompt_logprobs=LISTED,
        logprobs=LISTED,
        extra_args={"lockstep_segments": 1},
    )
    engine = llm.llm_engine
    engine.add_request("verify", {"prompt_token_ids": prompt}, sampling)
    scheduler = engine.engine_core.engine_core.scheduler
    total, last = len(prompt) + tail, None
    while engine.has_unfinished_requests():
        job.check_cancelled()
        for output in engine.step():
            last = output
        done = max((r.num_computed_tokens for r in scheduler.requests.values()), default=total)
        job.emit("progress", stage="vllm", done=min(done, total), total=total)
    if last is None or not last.finished:
        raise LockstepError("LS_VLLM_START", "expected an answer from vLLM, got none")
    answer = list(last.outputs[0].token_ids)
    if answer[:tail] != _forced:
        raise LockstepError(
            "LS_VLLM_FORCED", f"expected the {tail} tokens that were forced, got other ones"
        )
    rows = [*last.prompt_logprobs[1:], *last.outputs[0].logprobs]
    told = (last.kv_transfer_params or {}).get("lockstep", {}).get("segments", [])
    return rows, [end for _, end in told]


def _write(rows: list[Any], description: dict[str, Any]) -> None:
    import numpy as np

    ids, best, out = description["ids"], description["best"], Path(description["out"])
    wanted = np.fromfile(description["bestIds"], np.int32).reshape(len(ids), best)
    logp = np.zeros((len(ids), 1 + best))
    argmax = np.zeros(len(ids), np.int32)
    for at, row in enumerate(rows):
        least = min(one.logprob for one in row.values())
        argmax[at] = next(token for token, one in row.items() if one.rank == 1)
        after = ids[at + 1 : at + 2]
        if after:
            logp[at, 0] = row[after[0]].logprob
        for i, token in enumerate(wanted[at].tolist()):
            logp[at, 1 + i] = row[token].logprob if token in row else least
    logp.tofile(out / "vllm-logp.f64")
    argmax.tofile(out / "vllm-argmax.i32")


if __name__ == "__main__":
    job.main(run)
