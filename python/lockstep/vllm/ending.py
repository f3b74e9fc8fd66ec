"""How the scheduler ends a request whose policy failed: as upstream ends one whose grammar did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_WHY = "the boundary policy failed on this request's tokens"


def end_with_error(waiting: set[str] | dict[str, Any], requests: Iterable[str]) -> None:
    """Put ``requests`` where upstream looks for those that end with an error after this step.

    vLLM 0.32 keeps a set of ids, 0.33 a dict from id to a `RequestError`.
    """
    if isinstance(waiting, dict):
        for key in requests:
            waiting.setdefault(key, _request_error())
    else:
        waiting.update(requests)


def _request_error() -> Any:
    from vllm.outputs import RequestError

    return RequestError(code="policy_error", message=_WHY)
