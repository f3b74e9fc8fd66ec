"""vLLM inside a job's own process, for one sequence at a time.

Nothing of the prompts is cached between them: vLLM computes all of a prompt whose probabilities are
asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from ..bridge import job
from ..errors import LockstepError
from ..install import install

BUDGET = 1024  # tokens of a step: where probabilities are asked for, all their logits are alive


def open_engine(dir: str, dtype: str, max_tokens: int, **settings: Any) -> Any:
    """vLLM's ``LLM`` on a checkpoint, eager, for sequences of at most ``max_tokens``.

    Raises ``LS_VLLM_MISSING``, ``LS_VLLM_START``, and what the plugin's checks refuse.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # Segments need no scaling of positions: the limit is what was asked for (SEMANTICS 3).
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
            f"expected vLLM in the environment of {sys.executable}, got: {error}",
            install("vllm"),
        ) from error
    try:
        return LLM(
            model=dir,
            dtype=dtype,
            enforce_eager=True,
            max_model_len=max_tokens,
            max_num_batched_tokens=BUDGET,
            max_num_seqs=1,
            enable_prefix_caching=False,
            disable_log_stats=True,
            seed=0,
            **settings,
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
            _fix(str(error)),
        ) from error


def answer(llm: Any, prompt: list[int], sampling: Any, report: Callable[[int], None]) -> Any:
    """Run one request to its end. After every step, ``report`` gets the number of tokens run."""
    engine = llm.llm_engine
    engine.add_request("only", {"prompt_token_ids": prompt}, sampling)
    scheduler = engine.engine_core.engine_core.scheduler
    last = None
    while engine.has_unfinished_requests():
        job.check_cancelled()
        for output in engine.step():
            last = output
        for request in scheduler.requests.values():
            report(request.num_computed_tokens)
    if last is None or not last.finished:
        raise LockstepError("LS_VLLM_START", "expected an answer from vLLM, got none")
    return last


def _cause(error: BaseException | None) -> LockstepError | None:
    while error is not None:
        if isinstance(error, LockstepError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _fix(message: str) -> str:
    if "KV cache" in message or "kv cache" in message:
        return (
            "give it more memory for KV (on a CPU VLLM_CPU_KVCACHE_SPACE, in GiB), or shorter texts"
        )
    return "lockstep doctor; VLLM_LOGGING_LEVEL=INFO shows what vLLM does"
