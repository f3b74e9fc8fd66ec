"""What a contract may ask for that the paged head groups do not compute yet."""

from __future__ import annotations

from ..contract import Contract
from ..errors import LockstepError


def check_recipe(contract: Contract) -> None:
    """Refuse ``retrieval.recipe`` blocks (``LS_VLLM_FEATURE``)."""
    document = contract.document
    for field, expected, got in (
        ("retrieval.recipe", "anchors or topk", document["retrieval"]["recipe"]),
    ):
        if got in ("blocks", "all"):
            raise LockstepError(
                "LS_VLLM_FEATURE",
                f"expected {field} to be {expected}, got {got}: vLLM's plugin does not compute it",
                "serve this checkpoint with lockstep serve --engine torch",
                field,
            )
