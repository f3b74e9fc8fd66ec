"""The step graph: one segment piece through the model, built node by node from the weights.

Inputs (T tokens of the open segment, n wanted rows, D head dimension; float32 unless noted):
  ``ids`` int64 [T]; ``cos``, ``sin`` [T, D/2] of the tokens' positions; ``rows`` int64 [n];
  ``<group>_last`` int32 [1] and ``<group>_total`` int32 [] for each group name below: the number of
  K/V rows after this piece, minus one and plain;
  ``<layer>.<kind>.keys``, ``.values`` [1, H_kind, capacity, D]: rotated prefix, then the open
  segment so far, then room; kind is ``local`` or ``long``, or with recipe `blocks` in L_long
  ``long0``, ``long1``, ... for each long head: their prefixes may differ in length.
Outputs:
  ``logits`` [n, V]; ``<layer>.<kind>.keys.out``, ``.values.out``, meant to be the memory of the
  inputs: GroupQueryAttention then appends in place and copies no history; in layers of L_long
  ``<layer>.raw_queries`` [1, T, Hq_long D] and ``<layer>.raw_keys`` [1, T, H_long D], before RoPE
  (``<layer>.long0.raw_queries`` and so on with `blocks`).
Groups: ``local`` (sinks, carry), ``long`` (sinks, retrieved: layers of L_long), ``bare`` (sinks);
with `blocks` ``<layer>.long0`` and so on. Where all heads carry, ``bare`` is ``local``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from .block import Block, group_of
from .model import LayerHeads, ModelShape
from .nodes import CONTRIB, Graph, Linear
from .weights import Checkpoint, WeightFile

OPSET, IR_VERSION = 20, 9
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


def build(
    model: ModelShape,
    parts: list[LayerHeads],
    weights: Checkpoint,
    file: WeightFile,
    linear: Linear,
) -> ModelProto:
    """The step graph; its large weights are written to ``file`` on the way."""
    graph = Graph(file)
    inputs = _inputs(model, parts)
    outputs = [helper.make_tensor_value_info("logits", FLOAT, ["n", model.vocabulary])]
    embedding = weights["model.embed_tokens.weight"]
    tokens = linear.embed(graph, "ids", embedding)
    hidden = graph.node("Unsqueeze", [tokens, graph.small("axis0", np.array([0]))], "hidden0")
    graph.small("position0", np.array([0]))
    normed = graph.node(
        "SimplifiedLayerNormalization",
        [hidden, graph.small("0.norm", weights["model.layers.0.input_layernorm.weight"])],
        "0.normed",
        axis=-1,
        stash_type=1,
        epsilon=model.epsilon,
    )
    for layer, heads in enumerate(parts):
        block = Block(model, layer, heads, weights, graph, linear)
        inputs += block.inputs
        outputs += block.outputs
        attended = block.attention(normed)
        if layer == model.layers - 1:
            # Nothing after the last attention mixes tokens: go on with the wanted rows alone.
            attended = graph.node("Gather", [attended, "rows"], "rows.attended", axis=1)
            hidden = graph.node("Gather", [hidden, "rows"], "rows.hidden", axis=1)
        projected = block.project(attended)
        normed, hidden = block.add_norm(
            projected,
            hidden,
            f"{layer}.post",
            f"model.layers.{layer}.post_attention_layernorm.weight",
        )
        mixed = block.mlp(normed)
        following = (
            "model.norm.weight"
            if layer == model.layers - 1
            else f"model.layers.{layer + 1}.input_layernorm.weight"
        )
        normed, hidden = block.add_norm(mixed, hidden, f"{layer}.end", following)
    rows = graph.node("Squeeze", [normed, "axis0"], "rows.normed")
    head = embedding if model.tied else weights["lm_head.weight"]
    logits = linear.head(graph, rows, head, model.tied)
    graph.node("Identity", [logits], "logits")
    return _model(graph, inputs, outputs)


def _inputs(model: ModelShape, parts: list[LayerHeads]) -> list[Any]:
    """Those of the tokens and of the groups; each layer adds its own."""
    inputs = [
        helper.make_tensor_value_info("ids", INT64, ["T"]),
        helper.make_tensor_value_info("cos", FLOAT, ["T", model.head_dim // 2]),
        helper.make_tensor_value_info("sin", FLOAT, ["T", model.head_dim // 2]),
        helper.make_tensor_value_info("rows", INT64, ["n"]),
    ]
    groups = {
        group_of(layer, heads, kind) for layer, heads in enumerate(parts) for kind in heads.kinds
    }
    for group in sorted(groups):
        inputs.append(helper.make_tensor_value_info(f"{group}_last", INT32, [1]))
        inputs.append(helper.make_tensor_value_info(f"{group}_total", INT32, []))
    return inputs


def _model(graph: Graph, inputs: list[Any], outputs: list[Any]) -> ModelProto:
    body = helper.make_graph(
        graph.nodes, "lockstep-step", inputs, outputs, list(graph.initializers.values())
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(
        body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="lockstep"
    )
