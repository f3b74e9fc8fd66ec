"""``GET /lockstep``: which contract every engine process has loaded, asked of each one, live.

vLLM loads endpoint plugins only where ``VLLM_PLUGINS`` names them, so a server that answers here
was started to be asked.
"""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..errors import LockstepError

_PATIENCE = 30.0  # seconds; an engine answers between two steps


class Endpoints:
    """The ``vllm.endpoint_plugins`` entry point."""

    name = "lockstep"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._engine: Any = None

    def attach_router(self, app: Any) -> None:
        from fastapi.responses import JSONResponse

        async def identity() -> JSONResponse:
            try:
                return JSONResponse(await self._identity())
            except LockstepError as error:
                return JSONResponse({"error": error.as_dict()}, status_code=503)

        app.add_api_route("/lockstep", identity, methods=["GET"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        self._engine = engine_client

    async def _identity(self) -> dict[str, Any]:
        try:
            engines = await asyncio.wait_for(
                self._engine.collective_rpc("lockstep_identity"), _PATIENCE
            )
        except Exception as error:  # dead engine, no extension, time: whatever it is, not ready
            raise LockstepError(
                "LS_VLLM_IDENTITY",
                "expected every engine process to report its contract, got "
                f"{type(error).__name__}: {str(error) or 'no answer'}",
                "wait until the engine is up; if it stays so, read vLLM's output",
            ) from error
        digests = {engine["digest"] for engine in engines}
        return {
            "object": "lockstep.identity",
            "digest": digests.pop() if len(digests) == 1 else None,
            "version": _version(),
            "engines": engines,
        }


class WorkerExtension:
    """What ``collective_rpc`` finds on every worker; vLLM mixes it into its worker class."""

    def lockstep_identity(self) -> dict[str, Any]:
        model = self.get_model()  # type: ignore[attr-defined]
        contract = getattr(model, "contract", None)
        return {
            "rank": self.rank,  # type: ignore[attr-defined]
            "pid": os.getpid(),
            "digest": None if contract is None else contract.digest,
            "architecture": type(model).__name__,
            "model": self.vllm_config.model_config.model,  # type: ignore[attr-defined]
        }


def _version() -> str | None:
    try:
        return version("lockstep")
    except PackageNotFoundError:
        return None
