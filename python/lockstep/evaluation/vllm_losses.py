"""Job: losses of every window through vLLM, into the files where `torch_losses` would put them.

A window is one request: vLLM tells what its tokens' probabilities were when all of them have run.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.bridge import job
from lockstep.errors import LockstepError
from lockstep.evaluation.loss_files import loss_file, missing, write
from lockstep.evaluation.windows import FILE
from lockstep.vllm.offline import answer, open_engine


def run(description: dict[str, Any]) -> dict[str, Any]:
    """description: ``{folder, row: {name, dir}, dtype}``. Returns ``{seconds}``, by row.

    Raises ``LS_VLLM_*``, and what the plugin's checks refuse.
    """
    folder, name = Path(description["folder"]), description["row"]["name"]
    windows = [one["ids"] for one in json.loads((folder / FILE).read_text(encoding="utf-8"))]
    left = missing(folder, name, len(windows))
    if not left:
        return {"seconds": {}}
    # vLLM generates a token behind every prompt: it needs room too.
    longest = 1 + max(len(ids) for ids in windows)
    llm = open_engine(description["row"]["dir"], description["dtype"], longest)
    started = time.monotonic()
    total = sum(len(ids) for ids in windows)
    done = total - sum(len(windows[n]) for n in left)

    def report(computed: int) -> None:
        job.emit("progress", stage=name, done=done + computed, total=total)

    for n in left:
        report(0)
        nll_t = _losses(answer(llm, windows[n], _sampling(), report), windows[n])
        write(loss_file(folder, name, n), nll_t.tobytes())
        done += len(windows[n])
    return {"seconds": {name: time.monotonic() - started}}


def _sampling() -> Any:
    """Only the observed token's log-probability, in flat lists: a position has no object."""
    from vllm import SamplingParams

    return SamplingParams(
        temperature=0.0, max_tokens=1, detokenize=False, prompt_logprobs=0, flat_logprobs=True
    )


def _losses(output: Any, ids: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """-log p(x_{t+1}) in nats, [T - 1]; vLLM's are rounded to float32."""
    told = output.prompt_logprobs
    if told is None or told.token_ids != ids[1:]:
        raise LockstepError(
            "LS_VLLM_FAILED",
            f"expected log-probabilities of {len(ids) - 1} tokens from vLLM, got "
            f"{0 if told is None else len(told.token_ids)} (it ended with "
            f"{output.outputs[0].finish_reason})",
            "VLLM_LOGGING_LEVEL=INFO shows what vLLM does.",
        )
    return -np.asarray(told.logprobs, np.float64)


if __name__ == "__main__":
    job.main(run)
