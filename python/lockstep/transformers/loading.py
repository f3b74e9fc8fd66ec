"""``AutoModelForCausalLM.from_pretrained(DIR)``: the contract is checked first, then the weights
are loaded as `lockstep.load` loads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING

from lockstep.contract.model_type import segmented_type
from lockstep.contract.reader import Contract, read
from lockstep.errors import LockstepError
from lockstep.loader import DTYPES, load_module
from lockstep.training import sidecar_files
from lockstep.weights import reader as weights

#: Options of from_pretrained that have no meaning for a folder, or say what is so anyway.
_NEUTRAL = {
    "adapter_kwargs",
    "cache_dir",
    "code_revision",
    "force_download",
    "local_files_only",
    "low_cpu_mem_usage",
    "proxies",
    "revision",
    "token",
    "trust_remote_code",
    "use_safetensors",
    "weights_only",
    "_commit_hash",
    "_from_auto",
}
#: Attention that a caller may name: segments have their own.
_ATTENTION = (None, "sdpa", "lockstep")
#: Fields of config.json that change no number, which a caller may set otherwise.
_FREE = {"use_cache", "dtype", "torch_dtype", "architectures", "model_type", "transformers_version"}
_FREE |= {"bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"}


def load(path: Any, *args: Any, config: Any = None, **options: Any) -> Any:
    """The model of a checkpoint folder, in evaluation mode.

    options: ``dtype`` (float32, also the default, float64, bfloat16, or "auto" for config.json's);
    ``device_map`` (one device); ``truncation`` (K, instead of the contract's); and those of
    transformers that a folder does not need. Others raise ``LS_TRANSFORMERS_OPTION``.

    Raises what `lockstep.load` raises.
    """
    from .model import adopt
    from .segments import Segments

    folder = Path(path)
    dtype = _dtype(options.pop("torch_dtype", None), options.pop("dtype", None), config)
    device = _device(options.pop("device_map", None))
    truncation = options.pop("truncation", None)
    _check(options, args)
    check = weights.checked()
    contract = read(folder, weights_check=check)
    module = load_module(folder, dtype=dtype, device=device, weights_check=check)
    own = CONFIG_MAPPING[segmented_type(module.config.model_type)]
    if config is not None:
        _compare(config, module.config)
        module.config.use_cache = config.use_cache
    files = sidecar_files.read(folder)
    segments = Segments(folder, contract, files, _truncation(truncation, contract))
    adopt(module, own, segments)
    module.config._name_or_path = module.name_or_path = str(path)
    if ends := list(contract.document["tokenizer"]["ends"]):
        module.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
    return module


def _dtype(old: Any, new: Any, config: Any) -> str:
    asked = new if new is not None else old
    if asked == "auto":
        asked = getattr(config, "dtype", None)
    name = str(asked).removeprefix("torch.") if asked is not None else "float32"
    if name not in DTYPES:
        raise LockstepError(
            "LS_MODEL_DTYPE",
            f"expected dtype {', '.join(DTYPES)}, got {name}",
            "Pass dtype=torch.float32.",
            "dtype",
        )
    return name


def _device(asked: Any) -> str:
    if isinstance(asked, dict) and set(asked) == {""}:
        asked = asked[""]
    if asked is None:
        return "cpu"
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if isinstance(asked, int) and not isinstance(asked, bool):
        return f"cuda:{asked}"
    if str(asked).partition(":")[0] in ("cpu", "cuda"):
        return str(asked)
    raise _option("device_map to name one device, such as 'cpu' or 'cuda'", f"{asked!r}")


def _check(options: dict[str, Any], args: tuple[Any, ...]) -> None:
    if args:
        raise _option("options by name", f"{args[0]!r}")
    adapter = options.pop("_adapter_model_path", None)
    if adapter is not None:
        raise LockstepError(
            "LS_TRANSFORMERS_OPTION",
            f"expected a checkpoint, got the adapter {adapter}",
            "Load it with peft: AutoPeftModelForCausalLM.from_pretrained(ADAPTER).",
        )
    if options.get("attn_implementation") in _ATTENTION:
        options.pop("attn_implementation", None)
    for name, value in options.items():
        if name not in _NEUTRAL and value not in (None, False):
            raise _option("no option that changes how a segmented model runs", f"{name}={value!r}")


def _compare(given: Any, own: Any) -> None:
    """A configuration that the caller changed would be another model than the contract's."""
    if given._attn_implementation not in _ATTENTION:
        raise _option("no attn_implementation", f"{given._attn_implementation!r}")
    theirs, ours = given.to_dict(), own.to_dict()
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        if name in _FREE or name.startswith("_") or mine == other:
            continue
        raise LockstepError(
            "LS_TRANSFORMERS_OPTION",
            f"expected {name} to be {mine!r}, as in config.json, got {other!r}",
            "Leave it out: what the contract fixes is not changed when a model is loaded.",
            name,
        )


def _truncation(asked: Any, contract: Contract) -> int:
    if asked is None:
        return int(contract.document["training"]["truncation"])
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 0:
        raise _option("truncation to be an integer >= 0", f"{asked!r}")
    return asked


def _option(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_OPTION", f"expected {expected}, got {got}", "Leave it out."
    )
