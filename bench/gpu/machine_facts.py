"""Versions, device and memory of the machine. Fails without CUDA unless the run is dry."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "wasmtime")


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args()
    facts: dict[str, object] = {"packages": {name: version(name) for name in PACKAGES}}
    args.out.write_text(json.dumps(facts) + "\n")
    import torch

    facts |= {"python": sys.version.split()[0], "dry": args.dry, "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        facts |= {"device": card.name, "memoryBytes": card.total_memory}
    args.out.write_text(json.dumps(facts) + "\n")
    print(json.dumps(facts), flush=True)
    if not args.dry and not torch.cuda.is_available():
        sys.exit("expected a CUDA device, got none; try --dry")


if __name__ == "__main__":
    main()
