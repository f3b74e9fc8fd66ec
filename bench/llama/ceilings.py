"""How much less segmented prefill can cost than full attention, derived from shape and contract.

Llama-2-7B (L = 32 layers, H = 32 heads of D = 128, E = 4096, MLP 11,008) with S = 4096,
M = R = 512, A = 0, half of the heads long, four layers that retrieve, N = 131,072 tokens:

FLOPs  A multiplication and an addition count as two.
       Products with weights are the same on both sides: 2 N L (4 E E + 3 E 11,008) = 1.698e15.
       A query head and a key that it sees cost 4 D: 2 D for the score, 2 D for the value's share.
       Full attention sees N (N + 1) / 2 keys a head:  4 D H L N^2 / 2          = 4.504e15.
       Segmented, the segment's own keys:              4 D H L N S / 2          = 0.141e15;
       the prefix, 512 rows in all but the first segment, for the local half of the heads in every
       layer and the long half in four of 32, 9/16 of all: 4 D (9/16 H L) 512 (N - S) = 0.019e15.
       Ratio (1.698 + 4.504) / (1.698 + 0.141 + 0.019) = 3.34.
Bytes  Weights in fp16: 13.48e9. A row, key and value of one head: 2 * 2 * D = 512 bytes.
       Full attention keeps 512 H L N = 68.72e9. Segmented keeps the pool, 1/16 of that for what is
       before the open segment: 4.16e9; carry 512 * 512 * H L / 2 = 0.134e9; retrieved
       512 * 512 * 16 * 4 = 0.017e9; the open segment 512 H L S = 2.147e9.
       Ratio (13.48 + 68.72) / (13.48 + 6.46) = 4.12.

Left out, as too little to change a figure: norms, rotation, the softmax, the head's one row of
logits, retrieval's scores (0.2% of the FLOPs at a million tokens). Temporary memory is no part of a
ceiling either; nor is what an implementation keeps twice (a segment's keys, raw and rotated).
"""

from __future__ import annotations

from setting import Setting


def _kinds(setting: Setting) -> dict[str, int]:
    """KV heads over all layers: local, long with a pool, long without."""
    spec = setting.spec
    long = sum(len(heads) for heads in spec.long_heads)
    pooled = sum(len(heads) for n, heads in enumerate(spec.long_heads) if spec.pooled(n))
    heads = setting.shape.num_hidden_layers * setting.shape.num_key_value_heads
    return {"local": heads - long, "pooled": pooled, "plain": long - pooled}


def _prefix(setting: Setting, start: int) -> dict[str, int]:
    """Rows before the own keys of a segment that starts at token ``start``, for each kind."""
    sinks = min(setting.sinks, start)
    behind = start - sinks
    return {
        "local": sinks + min(setting.carry, behind),
        "pooled": sinks + min(setting.retrieval, behind),
        "plain": sinks,
    }


def prefill_flops(setting: Setting, tokens: int, *, segmented: bool) -> int:
    """FLOPs of a prefill of ``tokens`` tokens; the arithmetic is at the head of this file."""
    shape, kinds = setting.shape, _kinds(setting)
    products = 2 * tokens * shape.num_hidden_layers * shape.layer_products
    size = setting.segment if segmented else tokens
    pairs = 0  # of a query's position and a KV head's row
    for start in range(0, tokens, size):
        length, rows = min(size, tokens - start), _prefix(setting, start)
        own = length * (length + 1) // 2
        pairs += sum(count * (own + length * rows[kind]) for kind, count in kinds.items())
    group = shape.num_attention_heads // shape.num_key_value_heads
    return products + 4 * shape.head_dim * group * pairs


def kv_bytes(setting: Setting, tokens: int, element: int, *, segmented: bool) -> int:
    """Bytes of keys and values after ``tokens`` tokens, the last segment still open.

    ``element`` is the size of a number in bytes. Rows are counted once, the pool on the device.
    """
    kinds = _kinds(setting)
    heads = sum(kinds.values())
    if not segmented:
        rows = heads * tokens
    else:
        start = max(0, tokens - 1) // setting.segment * setting.segment
        before = sum(kinds[kind] * count for kind, count in _prefix(setting, start).items())
        pool = kinds["pooled"] * (start - min(setting.sinks, start))
        rows = before + pool + heads * (tokens - start)
    return 2 * element * setting.shape.head_dim * rows


def ceilings(setting: Setting, tokens: int, element: int) -> dict[str, float]:
    """Full attention over segmented: ``time`` by FLOPs, ``memory`` by weights and KV."""
    weights = element * setting.shape.parameters
    full, own = (prefill_flops(setting, tokens, segmented=s) for s in (False, True))
    kept, held = (weights + kv_bytes(setting, tokens, element, segmented=s) for s in (False, True))
    return {
        "fullFlops": full,
        "segmentedFlops": own,
        "fullBytes": kept,
        "segmentedBytes": held,
        "time": full / own,
        "memory": kept / held,
    }
