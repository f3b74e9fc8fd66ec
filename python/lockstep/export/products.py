"""Small graphs for the retrieval of a boundary, without weights.

`build`: query vectors against a page of pool keys, for `anchors`.
Inputs ``queries`` [H, Q, D] and ``keys`` [H, N, D], output ``products`` [H, Q, N], float32. The
order of summation is onnxruntime's own: the engine takes them for bounds and computes the scores of
SEMANTICS.md 4 of those keys alone that can be among the best.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .graph import IR_VERSION, OPSET


def build(head_dim: int) -> ModelProto:
    """The graph for heads of ``head_dim``; it has no weights."""

    def value(name: str, *shape: str | int) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    nodes = [
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "turned"], ["products"]),
    ]
    graph = helper.make_graph(
        nodes,
        "products",
        [value("queries", "H", "Q", head_dim), value("keys", "H", "N", head_dim)],
        [value("products", "H", "Q", "N")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


def build_blocks(head_dim: int) -> ModelProto:
    """For `blocks`: ``queries`` [r, D] against ``keys`` [n, D], rows of one head's pool.

    ``shape`` int64 [3] is (r, blocks, rows a block) with blocks x rows = n. Outputs: every query's
    largest logit ``top`` [r, 1] among these keys, and ``sums`` [r, blocks] of exp(logit - top).
    """

    def value(name: str, *shape: str | int) -> ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    last = numpy_helper.from_array(np.array([-1]), "last")
    nodes = [
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["queries", "turned"], ["logits"]),
        helper.make_node("ReduceMax", ["logits", "last"], ["top"], keepdims=1),
        helper.make_node("Sub", ["logits", "top"], ["below"]),
        helper.make_node("Exp", ["below"], ["weights"]),
        helper.make_node("Reshape", ["weights", "shape"], ["blocked"]),
        helper.make_node("ReduceSum", ["blocked", "last"], ["sums"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "blocks",
        [
            value("queries", "r", head_dim),
            value("keys", "n", head_dim),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [3]),
        ],
        [value("top", "r", 1), value("sums", "r", "b")],
        [last],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
