"""Nodes and weights of a graph under construction, and how a weight matrix becomes nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from .weights import WeightFile

CONTRIB = "com.microsoft"


class Linear:
    """How a weight [in, out] becomes nodes; fp32 here, quantized in ``onnx_quant``."""

    def matmul(self, graph: Graph, x: str, name: str, weight_IO: np.ndarray) -> str:
        return graph.node("MatMul", [x, graph.weight(name, weight_IO)], f"{name}.out")

    def embed(self, graph: Graph, ids: str, weight_VE: np.ndarray) -> str:
        return graph.node("Gather", [graph.weight("embedding", weight_VE), ids], "embed")

    def head(self, graph: Graph, x: str, weight_VE: np.ndarray, tied: bool) -> str:
        name = "embedding" if tied else "head"
        weight = graph.weight(name, weight_VE)
        return graph.node("Gemm", [x, weight], "head.out", transB=1)


class Graph:
    """Collects nodes and weights of one graph."""

    def __init__(self, file: WeightFile):
        self.file = file
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        return self.nodes_out(op, inputs, [output], **attributes)[0]

    def nodes_out(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: list[str],
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        made = helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        self.nodes.append(made)
        return outputs

    def contrib(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        return self.nodes_out(op, inputs, [output], CONTRIB, **attributes)[0]

    def weight(self, name: str, array: np.ndarray, dims: list[int] | None = None) -> str:
        """Store a large tensor in the external file, once a name."""
        if name not in self.initializers:
            self.initializers[name] = self.file.add(name, array, dims)
        return name

    def alias(self, name: str, original: str, dims: list[int]) -> str:
        """The bytes of a stored tensor under another name and shape."""
        made = TensorProto()
        made.CopyFrom(self.initializers[original])
        made.name = name
        made.ClearField("dims")
        made.dims.extend(dims)
        self.initializers[name] = made
        return name

    def small(self, name: str, array: np.ndarray) -> str:
        """Store a small tensor inside the graph, once a name."""
        if name not in self.initializers:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            made = helper.make_tensor(name, kind, array.shape, array.tobytes(), raw=True)
            self.initializers[name] = made
        return name
