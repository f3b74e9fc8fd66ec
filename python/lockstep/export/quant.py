"""Weight-only quantization of the step graph: blocks of 32 along the input, for MatMulNBits.

8 bits: symmetric. 4 bits: asymmetric, scale and zero point chosen a block to minimise the squared
error over a few shrunken ranges. Embedding and output head always take 8 bits, stored once when
tied, and so do the down projections: of SmolLM2's matrices they lose most (perplexity 1.30 times
fp32's with 4 bits everywhere, 1.16 so, for 12 of 107 MiB).
"""

from __future__ import annotations

import numpy as np

from .nodes import Graph, Linear

BLOCK = 32
#: int8 activations in MatMulNBits; measured faster and within the quality bounds.
ACCURACY_LEVEL = 4
_SHRINKS = np.linspace(1.0, 0.7, 7, dtype=np.float32)


class Quantized(Linear):
    """Weights in ``bits`` (4 or 8) bits."""

    def __init__(self, bits: int):
        self.bits = bits

    def matmul(self, graph: Graph, x: str, name: str, weight_IO: np.ndarray) -> str:
        bits = 8 if name.endswith(".down") else self.bits
        return self._product(graph, x, name, weight_IO.T, bits)

    def embed(self, graph: Graph, ids: str, weight_VE: np.ndarray) -> str:
        V, E = weight_VE.shape
        if E % BLOCK:
            return super().embed(graph, ids, weight_VE)
        codes, scales, _ = quantize(weight_VE, 8)
        inputs = [
            graph.weight("embedding.codes", codes, [V, E]),
            ids,
            graph.weight("embedding.scales", scales, [V, E // BLOCK]),
        ]
        return graph.contrib(
            "GatherBlockQuantized",
            inputs,
            "embed",
            bits=8,
            block_size=BLOCK,
            gather_axis=0,
            quantize_axis=1,
        )

    def head(self, graph: Graph, x: str, weight_VE: np.ndarray, tied: bool) -> str:
        V, E = weight_VE.shape
        if tied and E % BLOCK == 0:
            graph.alias("head.codes", "embedding.codes", [V, E // BLOCK, BLOCK])
            graph.alias("head.scales", "embedding.scales", [V * (E // BLOCK)])
            return self._node(graph, x, "head", E, V, 8, ["head.codes", "head.scales"])
        return self._product(graph, x, "head", weight_VE, 8)

    def _product(self, graph: Graph, x: str, name: str, weight_NK: np.ndarray, bits: int) -> str:
        N, K = weight_NK.shape
        codes, scales, zeros = quantize(weight_NK, bits)
        weights = [
            graph.weight(f"{name}.codes", codes),
            graph.weight(f"{name}.scales", scales.reshape(-1)),
        ]
        if zeros is not None:
            weights.append(graph.weight(f"{name}.zeros", zeros.reshape(-1)))
        return self._node(graph, x, name, K, N, bits, weights)

    def _node(
        self, graph: Graph, x: str, name: str, K: int, N: int, bits: int, weights: list[str]
    ) -> str:
        return graph.contrib(
            "MatMulNBits",
            [x, *weights],
            f"{name}.out",
            K=K,
            N=N,
            bits=bits,
            block_size=BLOCK,
            accuracy_level=ACCURACY_LEVEL,
        )


def quantize(weight_NK: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Codes uint8 [N, B, 32 bits / 8], scales float32 [N, B], zero points packed uint8 or None.

    B = ceil(K / 32); the last block is padded with zeros. 8 bits have the fixed zero point 128.
    """
    N, K = weight_NK.shape
    blocks = -(-K // BLOCK)
    padded_NK = np.zeros((N, blocks * BLOCK), dtype=np.float32)
    padded_NK[:, :K] = weight_NK
    w_NBb = padded_NK.reshape(N, blocks, BLOCK)
    if bits == 8:
        scale_NB = np.abs(w_NBb).max(-1) / 127
        safe_NB = np.where(scale_NB == 0, 1, scale_NB).astype(np.float32)
        codes = np.clip(np.rint(w_NBb / safe_NB[..., None]), -127, 127) + 128
        return codes.astype(np.uint8), safe_NB, None
    scale_NB, zero_NB = _best_range(w_NBb)
    codes = np.clip(np.rint(w_NBb / scale_NB[..., None]) + zero_NB[..., None], 0, 15).astype(
        np.uint8
    )
    return codes[..., 0::2] | codes[..., 1::2] << 4, scale_NB, _pack_zeros(zero_NB)


def _best_range(w_NBb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point (0..15) a block with the least squared error among shrunken ranges."""
    low_NB, high_NB = np.minimum(w_NBb.min(-1), 0), np.maximum(w_NBb.max(-1), 0)
    best_scale = np.ones_like(low_NB)
    best_zero = np.zeros_like(low_NB)
    best_error = np.full_like(low_NB, np.inf)
    for shrink in _SHRINKS:
        scale_NB = (high_NB - low_NB) * shrink / 15
        scale_NB = np.where(scale_NB == 0, 1, scale_NB).astype(np.float32)
        zero_NB = np.clip(np.rint(-low_NB * shrink / scale_NB), 0, 15)
        codes = np.clip(np.rint(w_NBb / scale_NB[..., None]) + zero_NB[..., None], 0, 15)
        error_NB = np.square((codes - zero_NB[..., None]) * scale_NB[..., None] - w_NBb).sum(-1)
        better = error_NB < best_error
        best_scale = np.where(better, scale_NB, best_scale)
        best_zero = np.where(better, zero_NB, best_zero)
        best_error = np.where(better, error_NB, best_error)
    return best_scale.astype(np.float32), best_zero


def _pack_zeros(zero_NB: np.ndarray) -> np.ndarray:
    """Zero points, two a byte, each row of blocks padded to whole bytes."""
    N, B = zero_NB.shape
    even = np.full((N, B + B % 2), 8, dtype=np.uint8)
    even[:, :B] = zero_NB
    return even[:, 0::2] | even[:, 1::2] << 4
