"""Low-rank adapters (LoRA, arXiv 2106.09685) by peft, merged wherever a checkpoint is written.

The adapters live in the stock module: `model.layers.0.self_attn.q_proj` becomes a layer of peft's
that holds the frozen projection as `base_layer`. No dropout is applied, as nowhere in a training:
what is trained is what is served. A checkpoint holds W + BA for every adapted W, under the stock
names, so it is an ordinary Hugging Face directory; B and A themselves are kept beside the
optimizer's state for `--resume`, because W + BA cannot be taken apart again without rounding, and
in `adapter/` for servers that share the base between adapters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lockstep.errors import LockstepError
from lockstep.install import install
from lockstep.training.settings import Lora
from lockstep.weights import adapter

NAME = "default"  # peft's name of the adapter
BASE = ".base_layer"
FOLDER = "adapter"  # of a checkpoint
_ENDS = tuple(f".lora_{part}.{NAME}.weight" for part in "AB")


def attach(module: Any, lora: Lora, seed: int) -> None:
    """Put adapters into ``module``, drawn from ``seed``; everything else is frozen.

    The output head gets none, whatever a pattern says. Raises LS_TRAIN_TRAINABLE where an entry of
    ``modules`` names no projection, LS_TRAIN_LORA without peft.
    """
    # Slow to import, and nothing but LoRA needs it.
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise LockstepError(
            "LS_TRAIN_LORA",
            "expected peft to train adapters (training.lora), got none installed",
            install("train"),
            field="training.lora",
        ) from error

    head = module.get_output_embeddings()
    linear = [(n, part) for n, part in module.named_modules() if isinstance(part, nn.Linear)]
    # The head's loss and gradient come in chunks from its weight alone (head.py).
    targets = [name for name, part in linear if part is not head]
    chosen = set()
    for pattern in lora.modules:
        found = [n for n in targets if n.split(".")[-1] == pattern or fnmatchcase(n, pattern)]
        if not found:
            raise LockstepError(
                "LS_TRAIN_TRAINABLE",
                f"expected training.lora.modules to name projections, got {pattern!r} which "
                f"matches none of {len(targets)} (such as {targets[0]}; the output head has none)",
                "Correct the pattern, or leave it out.",
                field="training.lora.modules",
            )
        chosen.update(found)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            LoraConfig(
                r=lora.rank,
                lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft takes any number
                lora_dropout=0.0,
                bias="none",
                target_modules=sorted(chosen),
            ),
            module,
            adapter_name=NAME,
        )
    module.eval()


def adapters(module: nn.Module) -> dict[str, nn.Parameter]:
    """A and B of every adapter by name, in the module's order."""
    return {n: p for n, p in module.named_parameters() if ".lora_A." in n or ".lora_B." in n}


@torch.no_grad()
def merged(module: nn.Module) -> dict[str, Tensor]:
    """The module's weights under their stock names, every adapter added to its projection.

    The module itself stays as it is: merging and taking apart again would change its weights.
    """
    deltas = {f"{name}.weight": layer.get_delta_weight(NAME) for name, layer in _layers(module)}
    out = {}
    for name, weight in module.state_dict().items():
        if ".lora_" in name:
            continue
        stock = name.replace(BASE, "")
        delta = deltas.get(stock)
        out[stock] = weight if delta is None else weight + delta.to(weight.dtype)
    return out


def export(
    directory: Path,
    trained: Mapping[str, Tensor],
    lora: Lora,
    contract: str,
    base: str,
    counts: Mapping[str, int],
) -> bool:
    """Write `adapter/` below a checkpoint: A and B in PEFT's layout, and whose they are.

    contract: the digest. base: SHA-256 of the weights that the training began from. counts: steps
    and tokens. Returns False, and writes nothing, where more than A and B was trained: the base
    with the adapter would be another model than the checkpoint.
    """
    if not all(name.endswith(_ENDS) for name in trained):
        return False
    folder = directory / FOLDER
    folder.mkdir()
    write(folder, trained, lora.rank, lora.alpha, contract, base, counts)
    return True


def write(
    folder: Path,
    trained: Mapping[str, Tensor],
    rank: int,
    alpha: float,
    contract: str,
    base: str,
    counts: Mapping[str, int],
) -> None:
    """A and B in PEFT's layout, and whose they are. trained: A and B by the names of `adapters`."""
    tensors, modules = {}, set()
    for name, value in trained.items():
        module, _, part = name.removesuffix(f".{NAME}.weight").rpartition(".")
        modules.add(module)
        tensors[f"base_model.model.{module}.{part}.weight"] = value.float().contiguous()
    config = adapter.config_of(rank, alpha, list(modules))
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / adapter.CONFIG).write_text(text, encoding="utf-8")
    save_file(tensors, folder / adapter.TENSORS, metadata={"format": "pt"})
    adapter.seal(folder, contract, base, counts)


@contextmanager
def without(module: nn.Module) -> Iterator[None]:
    """Meanwhile no adapter adds anything: the module is the one that training began with."""
    layers = [layer for _, layer in _layers(module)]
    try:
        for layer in layers:
            layer._disable_adapters = True
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return ((name, part) for name, part in module.named_modules() if isinstance(part, LoraLayer))
