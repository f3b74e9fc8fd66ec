"""Fail closed: what must hold before a segmented model may serve a token.

The checks run where vLLM makes its configuration, before any weight is read, and again in every
engine process. A model that would be served under another definition than it was trained under is
refused; so is every feature of vLLM that changes what is computed and was not shown to be equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contract.reader import CONTRACT_FILE, Contract, read
from ..errors import LockstepError
from ..operator.model import check_architecture
from ..operator.rope import check_scaling
from . import BASES
from .unsupported import SCHEDULER, UNSUPPORTED
from .versions import check_version

EXTENSION = "lockstep.vllm.http.WorkerExtension"


def check(vllm_config: Any) -> Contract:
    """The contract of the model to be served, after everything about it was found right.

    Raises ``LS_CONTRACT_*``, ``LS_VLLM_FEATURE`` for a setting that is not supported,
    ``LS_VLLM_HEADS``, ``LS_VLLM_VERSION``, ``LS_MODEL_SLIDING``, ``LS_ROPE_SCALING``.
    """
    check_version()
    contract = contract_of(vllm_config)
    model = vllm_config.model_config
    check_architecture(model.hf_config)
    check_scaling(model.hf_config)
    for rule in UNSUPPORTED:
        wrong = rule.wrong(vllm_config)
        if wrong is not None:
            raise LockstepError(
                "LS_VLLM_FEATURE",
                rule.message(_short(wrong)),
                rule.fix,
                rule.field,
            )
    _check_heads(contract, vllm_config)
    return contract


def contract_of(vllm_config: Any) -> Contract:
    """The contract in the served folder, verified; the same one in every process of an engine."""
    model = vllm_config.model_config
    contract = read(model.model)
    if model.tokenizer is not None and model.tokenizer != model.model:
        read(model.model, tokenizer=Path(model.tokenizer) / "tokenizer.json")
    agreed = (vllm_config.additional_config or {}).get("lockstep")
    if agreed is not None and agreed != contract.digest:
        raise LockstepError(
            "LS_CONTRACT_DIGEST",
            f"expected digest {agreed}, got {contract.digest} ({CONTRACT_FILE} changed while the "
            "engine started)",
            "Start the engine again.",
            "digest",
        )
    return contract


def _check_heads(contract: Contract, vllm_config: Any) -> None:
    """Every rank gets the same number of local and of long heads of each layer."""
    ranks = vllm_config.parallel_config.tensor_parallel_size
    kv_heads = vllm_config.model_config.get_total_num_kv_heads()
    for layer, long in enumerate(contract.document["heads"]["long"]):
        if len(long) % ranks or (kv_heads - len(long)) % ranks:
            raise LockstepError(
                "LS_VLLM_HEADS",
                f"expected long and local KV heads that {ranks} ranks can share, got {len(long)} "
                f"long of {kv_heads} in layer {layer}",
                "Choose another tensor_parallel_size, or heads.long in the contract.",
                "tensor_parallel_size",
            )


def _short(value: Any) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    return type(value).__name__


# Where vLLM asks


def install() -> None:
    """Register the checks with vLLM; idempotent. Called by the plugin in every process."""
    from vllm.model_executor.models.config import MODELS_CONFIG_MAP, VerifyAndUpdateConfig

    if all(f"Segmented{base}" in MODELS_CONFIG_MAP for base in BASES):
        return

    class SegmentedConfig(VerifyAndUpdateConfig):
        @staticmethod
        def verify_and_update_config(vllm_config: Any) -> None:
            adopt(vllm_config)

    class StockConfig(VerifyAndUpdateConfig):
        @staticmethod
        def verify_and_update_config(vllm_config: Any) -> None:
            refuse_stock(vllm_config.model_config)

    for base in BASES:
        MODELS_CONFIG_MAP[f"Segmented{base}"] = SegmentedConfig
        MODELS_CONFIG_MAP.setdefault(base, StockConfig)


def adopt(vllm_config: Any) -> None:
    """Check a configuration of a segmented model, and set what such a model needs."""
    contract = check(vllm_config)
    vllm_config.scheduler_config.scheduler_cls = SCHEDULER
    # With it on, the newest token is not known on the host when the next step is cut.
    vllm_config.scheduler_config.async_scheduling = False
    if not vllm_config.parallel_config.worker_extension_cls:
        vllm_config.parallel_config.worker_extension_cls = EXTENSION
    _choose_graphs(vllm_config)
    if not keeps_all_tokens(contract):
        # Nothing to hit: every group forgets tokens that a policy would have to see again.
        vllm_config.cache_config.enable_prefix_caching = False
    vllm_config.additional_config = {
        **(vllm_config.additional_config or {}),
        "lockstep": contract.digest,
    }


def _choose_graphs(vllm_config: Any) -> None:
    """A full graph would replay a step without asking the policy; upstream's default has them."""
    from vllm.config import CUDAGraphMode
    from vllm.platforms import current_platform

    if current_platform.is_cuda_alike() and vllm_config.compilation_config.cudagraph_mode is None:
        vllm_config.compilation_config.cudagraph_mode = CUDAGraphMode.PIECEWISE


def keeps_all_tokens(contract: Contract) -> bool:
    """Whether the model has a pool: long heads, in a layer that retrieves."""
    retrieval, long = contract.document["retrieval"], contract.document["heads"]["long"]
    return retrieval["size"] > 0 and any(long[layer] for layer in retrieval["layers"])


def refuse_stock(model_config: Any) -> None:
    """A checkpoint with a contract is not served by an architecture that ignores it."""
    if (Path(model_config.model) / CONTRACT_FILE).is_file():
        raise LockstepError(
            "LS_CONTRACT_ARCHITECTURE",
            f"expected architectures ['Segmented{model_config.architecture}'] with "
            f"{CONTRACT_FILE}, got {model_config.architectures}",
            "The checkpoint was trained segmented: restore config.json, or attach again; to serve "
            f"it with full attention on purpose, remove {CONTRACT_FILE} from a copy.",
            "architectures",
        )
