"""Job: vLLM over a text, written to files that Node compares with the trainer's.

Most of the text is a prompt, computed in chunks as a server's are; the end of it is decoded token
by token, each next token forced, so that both ways through the engine are compared. The engine
runs in this process: what its scheduler cut, what its worker cut and what its layers retrieved can
be read, and where a layer retrieved otherwise than the trainer, the trainer's rows are put in their
place (SEMANTICS.md 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import retrieval
from ..bridge import job
from ..errors import LockstepError
from .offline import answer, open_engine
from .retrieved_rows import in_pool, in_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from .step import SegmentEnd
    from .tracker import QuerySpan

LISTED = 64  # log-probabilities that vLLM is asked for at a position


def run(description: dict[str, Any]) -> dict[str, Any]:
    """Run vLLM in float32 and write what is compared.

    ``description``: ``{dir, ids, decoded, best, bestIds, retrieved, out}``; ``decoded``: how many
    tokens at the end are decoded one by one; ``bestIds`` names the trainer's file of int32
    [T, best], ``retrieved`` what it retrieved: ``[{at, layers: [{layer, positions}]}]``. Written
    under ``out``: ``vllm-logp.f64`` [T, 1 + best], log p of the next token (0 at the last position)
    and of the trainer's best, and ``vllm-argmax.i32`` [T]. A token that is not among the LISTED
    best of vLLM gets the log p of the last listed one, an upper bound.

    Returns ``{digest, boundaries, scheduled, retrieved}``: the cuts of the worker and of the
    scheduler, and what vLLM itself would have retrieved.
    Raises ``LS_VLLM_MISSING``, ``LS_VLLM_START``, and what the plugin's checks refuse.
    """
    ids = description["ids"]
    llm = open_engine(
        description["dir"],
        "float32",
        len(ids) + 2,
        max_logprobs=LISTED,
        logits_processors=["lockstep.vllm.teacher_forcing:TeacherForcing"],
    )
    (model,) = llm.collective_rpc(_model)
    watch = _Watch(model, description["retrieved"])
    first = len(ids) - description["decoded"]
    rows, told = _serve(llm, ids[:first], ids[first:])
    _write(rows, description)
    return {
        "digest": model.contract.digest,
        "boundaries": sorted(watch.cuts),
        "scheduled": told,
        "retrieved": watch.retrieved(),
    }


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
        model.segments.observer = self

    def cut(self, spans: Sequence[QuerySpan]) -> None:
        self.cuts.update(span.b for span in spans if span.closes)

    def replace_retrieved(self, layer: int, closing: SegmentEnd, positions_HR: Tensor) -> Tensor:
        first = min(self._spec.sinks, closing.end)
        count = min(self._spec.retrieval_size, self._spec.eligible_at(closing.end))
        own = in_pool(positions_HR[:, :count], first)
        self._own[closing.end, layer] = own
        theirs = self._trainer.get((closing.end, layer))
        # A choice of another size has no room for the trainer's: it stays.
        if theirs is not None and theirs != own and max(map(len, theirs)) <= count:
            theirs_Hr = retrieval.padded(theirs).to(positions_HR.device)
            positions_HR[:, :count] = in_tokens(theirs_Hr, first, count)
        return positions_HR

    def ran(self, hidden_TE: Tensor) -> None:
        pass

    def retrieved(self) -> list[dict[str, Any]]:
        by_end: dict[int, list[dict[str, Any]]] = {}
        for (at, layer), positions in sorted(self._own.items()):
            by_end.setdefault(at, []).append({"layer": layer, "positions": positions})
        return [{"at": at, "layers": layers} for at, layers in by_end.items()]


def _model(worker: Any) -> Any:
    return worker.get_model()


def _serve(llm: Any, prompt: list[int], tail: list[int]) -> tuple[list[Any], list[int]]:
    """One request; its log-probabilities by position, and the scheduler's cuts."""
    from vllm import SamplingParams

    from .teacher_forcing import TeacherForcing

    TeacherForcing.tokens[:] = tail
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=len(tail) + 1,
        ignore_eos=True,
        detokenize=False,
        prompt_logprobs=LISTED,
        logprobs=LISTED,
        extra_args={"lockstep_segments": 1},
    )
    total = len(prompt) + len(tail)

    def report(computed: int) -> None:
        job.emit("progress", stage="vllm", done=min(computed, total), total=total)

    output = answer(llm, prompt, sampling, report)
    report(total)
    if list(output.outputs[0].token_ids)[: len(tail)] != tail:
        raise LockstepError(
            "LS_VLLM_FORCED",
            f"expected the {len(tail)} tokens that were forced, got other ones",
            "Report this, with the settings of vLLM and the output of LOCKSTEP_DEBUG=1.",
        )
    rows = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
    told = (output.kv_transfer_params or {}).get("lockstep", {}).get("segments", [])
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
