"""Which tensors a model has, and their shapes, in one table.

Counterpart of src/weights/table.ts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"

#: Inverse frequencies that old checkpoints hold; every reader derives them from config.json.
IGNORED = re.compile(r"model\.(layers\.[0-9]+\.self_attn\.)?rotary_emb\.inv_freq")


def expected_tensors(shape: Mapping[str, Any]) -> dict[str, list[int]]:
    """Shape of every tensor by name, in the model's order; without ``lm_head.weight`` where tied.

    shape: the contract's ``model`` (sizes are counts), of which the shapes of tensors follow.
    """
    hidden, inner, side = shape["hiddenSize"], shape["intermediateSize"], shape["headDim"]
    q, kv = shape["queryHeads"] * side, shape["kvHeads"] * side
    layer: dict[str, list[int]] = {
        "input_layernorm.weight": [hidden],
        "self_attn.q_proj.weight": [q, hidden],
        "self_attn.k_proj.weight": [kv, hidden],
        "self_attn.v_proj.weight": [kv, hidden],
        "self_attn.o_proj.weight": [hidden, q],
        "post_attention_layernorm.weight": [hidden],
        "mlp.gate_proj.weight": [inner, hidden],
        "mlp.up_proj.weight": [inner, hidden],
        "mlp.down_proj.weight": [hidden, inner],
    }
    if shape["attentionBias"] != "none":
        layer |= {
            "self_attn.q_proj.bias": [q],
            "self_attn.k_proj.bias": [kv],
            "self_attn.v_proj.bias": [kv],
        }
    if shape["attentionBias"] == "qkvo":
        layer["self_attn.o_proj.bias"] = [hidden]
    if shape["family"] == "qwen3":
        layer |= {"self_attn.q_norm.weight": [side], "self_attn.k_norm.weight": [side]}
    if shape["mlpBias"]:
        layer |= {
            "mlp.gate_proj.bias": [inner],
            "mlp.up_proj.bias": [inner],
            "mlp.down_proj.bias": [hidden],
        }
    out = {EMBEDDING: [shape["vocabulary"], hidden]}
    for i in range(shape["layers"]):
        out |= {f"model.layers.{i}.{name}": sides for name, sides in layer.items()}
    out["model.norm.weight"] = [hidden]
    if not shape["tied"]:
        out[HEAD] = [shape["vocabulary"], hidden]
    return out
