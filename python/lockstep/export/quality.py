"""How well an exported graph predicts a text: perplexity over first segments, by onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .model import LayerHeads, ModelShape

WINDOW = 512


def perplexity(
    graph: Path,
    model: ModelShape,
    parts: list[LayerHeads],
    ids: Sequence[int],
    window: int,
    *,
    threads: int = 0,
    check: Callable[[], None] = lambda: None,
) -> float:
    """exp of the mean -log p(x_{t+1}), each window of ``window`` tokens run as a first segment.

    The weights are what is judged here, so carry and retrieval are left out; `lockstep verify`
    compares whole runs. ``check`` is called before every window and may raise to cancel.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    total, count = 0.0, 0
    for start in range(0, len(ids) - 1, window):
        check()
        piece = np.asarray(ids[start : start + window + 1], dtype=np.int64)
        logits_TV = session.run(["logits"], feeds(session, model, parts, piece[:-1]))[0]
        high_T = logits_TV.max(axis=1).astype(np.float64)
        logsum_T = high_T + np.log(np.exp(logits_TV - high_T[:, None]).sum(axis=1))
        total += float((logsum_T - logits_TV[np.arange(len(piece) - 1), piece[1:]]).sum())
        count += len(piece) - 1
    return math.exp(min(total / max(1, count), 700.0))


def feeds(
    session, model: ModelShape, parts: list[LayerHeads], ids_T: np.ndarray
) -> dict[str, np.ndarray]:
    """Inputs for the first tokens of a sequence, all rows wanted, nothing before them."""
    T = len(ids_T)
    angle_TF = np.arange(T, dtype=np.float64)[:, None] * model.inv_freq.astype(np.float64)
    out: dict[str, np.ndarray] = {
        "ids": ids_T,
        "rows": np.arange(T, dtype=np.int64),
        "cos": (np.cos(angle_TF) * model.attention_factor).astype(np.float32),
        "sin": (np.sin(angle_TF) * model.attention_factor).astype(np.float32),
    }
    for entry in session.get_inputs():
        name = entry.name
        if name.endswith("_last"):
            out[name] = np.array([T - 1], dtype=np.int32)
        elif name.endswith("_total"):
            out[name] = np.array(T, dtype=np.int32)
        elif name.endswith((".keys", ".values")):
            layer, kind, _ = name.split(".")
            heads = len(parts[int(layer)].kinds[kind])
            out[name] = np.zeros((1, heads, T, model.head_dim), dtype=np.float32)
    return out
