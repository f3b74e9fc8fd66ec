"""Which vLLM the plugin runs in, and whether it was tested with it.

The plugin derives from vLLM's own classes, so another version of vLLM is another program. Only what
`npm run test:vllm` ran on is accepted: any release 0.32.x, post-releases and local builds (+cpu)
of it, no pre-release.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import LockstepError

TESTED = "0.32"
_RELEASE = re.compile(rf"{re.escape(TESTED)}\.\d+(\.post\d+)?(\+[\w.]+)?")


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
            f"npm run setup -- --vllm, or pip install 'vllm~={TESTED}.0' beside lockstep",
        )


def runner_of(vllm_config: Any) -> str:
    """``V1`` or ``V2``: the model runner that a configuration gets."""
    return "V2" if getattr(vllm_config, "use_v2_model_runner", False) else "V1"
