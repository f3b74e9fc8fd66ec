"""Retrieval cases as JSON lines, with the reference's and the Python product's answers.

python retrieval_cases.py COUNT      (PYTHONPATH: test/python and python)
"""

from __future__ import annotations

import base64
import json
import sys

import numpy as np
import torch
from lockstep import retrieval as product

from oracle import retrieval as reference

KINDS = ("normal", "integers", "repeated", "close", "cancelling")


def case(seed: int) -> tuple[np.ndarray, np.ndarray, int, str]:
    """Queries [H, Q, D], keys [H, N, D], R and recipe; kinds and edge cases take turns."""
    rng = np.random.default_rng(seed)
    kind, recipe = KINDS[seed % 5], ("anchors", "topk")[seed // 5 % 2]
    dtype = (np.float32, np.float64)[seed // 10 % 2]
    heads, dimension = int(rng.integers(1, 4)), int(rng.integers(1, 20))
    count = int(rng.choice([1, 3, 4, 7, 8, 12, 63, 64]))
    pool = int(rng.choice([0, 1, 15, 16, 17, 80, 400]))
    size = int(rng.choice([0, 1, 7, 8, 9, 16, 40, 100]))
    queries = rng.standard_normal((heads, count, dimension))
    keys = rng.standard_normal((heads, pool, dimension))
    if kind == "integers":
        queries, keys = np.round(queries), np.round(keys)
    elif kind == "repeated" and pool:
        keys = keys[:, rng.integers(0, min(pool, 5), pool)]
    elif kind == "close" and pool:
        keys = keys[:, :1] * (1 + 2.0**-24 * rng.integers(-8, 8, keys.shape))
    elif kind == "cancelling":
        queries[..., :2] = 1000
        keys = keys * 1e-4
        keys[..., 0] += 1000
        keys[..., 1:2] -= 1000
    return queries.astype(dtype), keys.astype(dtype), size, recipe


def encode(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode()


def main(count: int) -> None:
    torch.set_num_threads(1)
    for seed in range(count):
        queries, keys, size, recipe = case(seed)
        expected = reference.select(queries, keys, size, recipe)
        got = product.select(torch.from_numpy(queries), torch.from_numpy(keys), size, recipe)
        heads, number, dimension = queries.shape
        print(json.dumps({
            "shape": {"heads": heads, "queries": number, "keys": keys.shape[1], "dim": dimension},
            "type": queries.dtype.name, "size": size, "recipe": recipe,
            "queries": encode(queries), "keys": encode(keys),
            "reference": expected, "python": got.tolist(),
        }))  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
