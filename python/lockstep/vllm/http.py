"""``GET /lockstep``: which contract every engine process has loaded, asked of each one, live.

Before the server opens its port, the engine runs the checkpoint's probe (probe.py): a server whose
numbers are not the trainer's ends instead of starting.

vLLM loads endpoint plugins only where ``VLLM_PLUGINS`` names them, so a server that answers here
was started to be asked.
"""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..contract.reader import read
from ..errors import LockstepError
from ..weights import adapter
from . import probe
from .versions import runner_of
from .versions import version as vllm_version

_IDENTITY_SECONDS = 30.0  # an engine answers between two steps


class Endpoints:
    """The ``vllm.endpoint_plugins`` entry point."""

    name = "lockstep"
    required_tasks = ("generate",)

    def __init__(self) -> None:
        self._engine: Any = None
        self._probe = probe.Outcome("absent")
        self._adapters: list[dict[str, Any]] = []

    def attach_router(self, app: Any) -> None:
        from fastapi.responses import JSONResponse

        async def identity() -> JSONResponse:
            try:
                return JSONResponse(await self._identity())
            except LockstepError as error:
                return JSONResponse({"error": error.as_dict()}, status_code=503)

        app.add_api_route("/lockstep", identity, methods=["GET"])

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """vLLM waits for this before it opens its port. Raises what `probe.run` raises."""
        self._engine = engine_client
        config = None if engine_client is None else engine_client.vllm_config.model_config
        if config is None or not config.architecture.startswith("Segmented"):
            return
        contract = read(config.model)
        self._probe = await probe.run(engine_client, contract)
        _tell(self._probe)
        # vLLM has loaded those of --lora-modules by now; none can come later (unsupported.py).
        for lora in state.openai_serving_models.lora_requests.values():
            own = adapter.read(lora.lora_path)
            outcome = await probe.run(engine_client, contract, lora, own.sha256)
            _tell(outcome, lora.lora_name)
            told = {"name": lora.lora_name, "sha256": own.sha256, "probe": outcome.as_dict()}
            self._adapters.append(told)

    async def _identity(self) -> dict[str, Any]:
        try:
            engines = await asyncio.wait_for(
                self._engine.collective_rpc("lockstep_identity"), _IDENTITY_SECONDS
            )
        except Exception as error:  # dead engine, no extension, time: whatever it is, not ready
            raise LockstepError(
                "LS_VLLM_IDENTITY",
                "expected every engine process to report its contract, got "
                f"{type(error).__name__}: {str(error) or 'no answer'}",
                "Wait until the engine is ready. If the error persists, read vLLM's output.",
            ) from error
        digests = {engine["digest"] for engine in engines}
        return {
            "object": "lockstep.identity",
            "digest": digests.pop() if len(digests) == 1 else None,
            "version": _version(),
            "vllm": vllm_version(),
            "runner": runner_of(self._engine.vllm_config),
            "probe": self._probe.as_dict(),
            "adapters": self._adapters,
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

    def lockstep_probe(self, positions: list[int]) -> None:
        """Keep what the model says at these positions of the next request."""
        self.get_model().segments.observer = probe.Rows(positions)  # type: ignore[attr-defined]

    def lockstep_probed(
        self, length: int, folder: str, weights: str | None
    ) -> dict[str, Any] | None:
        """How far that was off, for a probe of which ``length`` tokens ran."""
        model = self.get_model()  # type: ignore[attr-defined]
        return probe.measured(model, folder, length, weights)


_SAID = {
    "skipped": "skipped, because of --no-probe",
    "absent": "there is none: lockstep probe DIR (of an adapter: lockstep train) records it",
    "short": "skipped, because --max-model-len is smaller than the probe",
}


def _tell(outcome: probe.Outcome, adapter: str | None = None) -> None:
    from vllm.logger import init_logger

    from .metrics import set_probe

    said = _SAID.get(outcome.status) or (
        f"passed: {outcome.tokens} tokens, {outcome.boundaries} boundaries, {outcome.positions} "
        f"positions, off by {outcome.off:.2g} nats ({outcome.kind}, bound {outcome.bound:g}), "
        f"{outcome.milliseconds:.0f} ms"
    )
    whose = "probe" if adapter is None else f"probe of the adapter {adapter}"
    init_logger("vllm.lockstep").info("Lockstep's %s: %s", whose, said)
    if outcome.status == "passed" and adapter is None:
        set_probe(outcome.milliseconds)


def _version() -> str | None:
    try:
        return version("lockstep")
    except PackageNotFoundError:
        return None
