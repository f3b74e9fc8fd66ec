"""The products graph: query vectors against a page of pool keys, for the retrieval of a boundary.

Inputs ``queries`` [H, Q, D] and ``keys`` [H, N, D], output ``products`` [H, Q, N], float32. The
order of summation is onnxruntime's own: the engine takes them for bounds and computes the scores of
SEMANTICS.md 4 of those keys alone that can be among the best.
"""

from __future__ import annotations

from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from .onnx_graph import IR_VERSION, OPSET


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
