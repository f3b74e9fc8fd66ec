"""The policy runtimes that this Lockstep has, by the version that a contract names.

The counterpart of ``src/planner/runtime/versions.ts``. Runtimes are never changed, only added:
their SHA-256 stands in contracts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import LockstepError

RUNTIMES = {1: "30b88adbdcac1bba226aa777bb731f34e7261946a614f3cc7b5e9901f5d4553f"}
CURRENT: Mapping[str, Any] = {"version": max(RUNTIMES), "sha256": RUNTIMES[max(RUNTIMES)]}


def runtime_text(identity: Mapping[str, Any] | None) -> str:
    """Text of a runtime, the current one where a contract under construction names none.

    Raises ``LS_POLICY_RUNTIME`` where this Lockstep does not have it, or has other bytes.
    """
    version, sha256 = (identity or CURRENT)["version"], (identity or CURRENT)["sha256"]
    if RUNTIMES.get(version) != sha256:
        known = " or ".join(f"{number} ({own[:12]}…)" for number, own in RUNTIMES.items())
        raise LockstepError(
            "LS_POLICY_RUNTIME",
            f"expected a contract for policy runtime {known}, got {version} ({sha256[:12]}…)",
            "Update Lockstep to the version that made the contract, or make the contract again: "
            "lockstep attach MODEL --config F --out DIR",
            "policy.runtime",
        )
    return _read(version)


@cache
def _read(version: int) -> str:
    file = Path(__file__).parents[1] / "data" / f"policy-runtime.v{version}.js"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise LockstepError(
            "LS_POLICY_RUNTIME",
            f"expected {file.name}, got {type(error).__name__}",
            "In a clone: npm run build; elsewhere install Lockstep again",
        ) from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != RUNTIMES[version]:
        raise LockstepError(
            "LS_POLICY_RUNTIME",
            f"expected {file.name} with SHA-256 {RUNTIMES[version]}, got {actual}",
            "In a clone: npm run build; elsewhere install Lockstep again",
        )
    return data.decode("utf-8")
