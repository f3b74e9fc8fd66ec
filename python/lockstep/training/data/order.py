"""Orders that are computed, not stored: a shuffle of any length in constant memory."""

from __future__ import annotations

import hashlib

import numpy as np

ROUNDS = 8
_GOLDEN, _A, _B = (
    np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def key(*words: object) -> bytes:
    """Eight bytes from words such as the seed and the epoch."""
    return hashlib.blake2b(":".join(map(str, words)).encode(), digest_size=8).digest()


def scatter(values: np.ndarray, secret: bytes) -> np.ndarray:
    """uint64 that look random, one for each of ``values`` (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        x = values.astype(np.uint64) * _GOLDEN + np.frombuffer(secret, "<u8")[0]
        x = (x ^ (x >> np.uint64(30))) * _A
        x = (x ^ (x >> np.uint64(27))) * _B
        return np.asarray(x ^ (x >> np.uint64(31)))


def shuffled(at: int, count: int, secret: bytes) -> int:
    """Element ``at`` of a permutation of 0..count-1: a Feistel network over the next power of four,
    walked until it falls below ``count`` (Black and Rogaway 2002, cycle walking)."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = at >> half, at & mask
        for turn in range(ROUNDS):
            word = (right << 8 | turn).to_bytes(9, "little")
            mixed = hashlib.blake2b(word, digest_size=8, key=secret).digest()
            left, right = right, left ^ (int.from_bytes(mixed, "little") & mask)
        at = left << half | right
        if at < count:
            return at
