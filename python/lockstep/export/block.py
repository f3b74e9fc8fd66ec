"""One decoder layer of the step graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from .model import LayerHeads, ModelShape
from .nodes import CONTRIB, Graph, Linear
from .weights import Checkpoint

FLOAT = TensorProto.FLOAT


def group_of(layer: int, heads: LayerHeads, kind: str) -> str:
    """Name of the group whose row counts a layer's head group follows."""
    if kind == "local":
        return "local"
    if not heads.pooled:
        return "local" if heads.carries else "bare"
    return f"{layer}.{kind}" if heads.apart else "long"


def raw_names(layer: int, kind: str) -> tuple[str, str]:
    """Outputs with the queries and keys of a pooled kind before RoPE."""
    prefix = f"{layer}" if kind == "long" else f"{layer}.{kind}"
    return f"{prefix}.raw_queries", f"{prefix}.raw_keys"


class Block:
    """One decoder layer."""

    def __init__(
        self,
        model: ModelShape,
        layer: int,
        heads: LayerHeads,
        weights: Checkpoint,
        graph: Graph,
        linear: Linear,
    ):
        self.model, self.layer, self.heads = model, layer, heads
        self.weights, self.graph, self.linear = weights, graph, linear
        self.prefix = f"model.layers.{layer}"
        self.kinds = heads.kinds
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        for kind, own in self.kinds.items():
            shape: list[Any] = [
                1,
                len(own),
                f"{layer}.{kind}.rows",
                model.head_dim,
            ]
            for part in ("keys", "values"):
                name = f"{layer}.{kind}.{part}"
                self.inputs.append(helper.make_tensor_value_info(name, FLOAT, shape))
                self.outputs.append(helper.make_tensor_value_info(f"{name}.out", FLOAT, shape))
            if kind == "local" or not heads.pooled:
                continue
            width = len(own) * model.head_dim
            raw = zip(raw_names(layer, kind), (width * model.group, width), strict=True)
            for name, size in raw:
                self.outputs.append(helper.make_tensor_value_info(name, FLOAT, [1, "T", size]))

    def attention(self, normed: str) -> str:
        """[1, T, E] -> attention output [1, T, Hq D], query heads ordered local, then long."""
        model, graph, layer = self.model, self.graph, self.layer
        projected, names, widths = self._project_qkv(normed)
        graph.nodes_out(
            "Split", [projected, graph.small(f"{layer}.widths", np.array(widths))], names, axis=2
        )
        outs = []
        for kind, own in self.kinds.items():
            count = len(own)
            q, k = f"{layer}.{kind}.q", f"{layer}.{kind}.k"
            if model.qk_norm:
                q = self._head_norm(
                    q, f"{self.prefix}.self_attn.q_norm.weight", count * model.group
                )
                k = self._head_norm(k, f"{self.prefix}.self_attn.k_norm.weight", count)
            if kind != "local" and self.heads.pooled:
                for raw, name in zip((q, k), raw_names(layer, kind), strict=True):
                    graph.node("Identity", [raw], name)
            q, k = (
                graph.contrib(
                    "RotaryEmbedding",
                    [x, "position0", "cos", "sin"],
                    f"{x}.rotated",
                    num_heads=heads,
                    rotary_embedding_dim=0,
                )
                for x, heads in ((q, count * model.group), (k, count))
            )
            group, cache = group_of(layer, self.heads, kind), f"{layer}.{kind}"
            graph.nodes_out(
                "GroupQueryAttention",
                [
                    q,
                    k,
                    f"{layer}.{kind}.v",
                    f"{cache}.keys",
                    f"{cache}.values",
                    f"{group}_last",
                    f"{group}_total",
                ],
                [f"{cache}.out", f"{cache}.keys.out", f"{cache}.values.out"],
                CONTRIB,
                num_heads=count * model.group,
                kv_num_heads=count,
                scale=model.head_dim**-0.5,
            )
            outs.append(f"{cache}.out")
        return (
            outs[0] if len(outs) == 1 else graph.node("Concat", outs, f"{layer}.attended", axis=2)
        )

    def project(self, attended: str) -> str:
        weight_OI = self.weights[f"{self.prefix}.self_attn.o_proj.weight"]
        columns = _columns(self._query_heads(), self.model.head_dim)
        return self._linear(
            attended, "o", weight_OI[:, columns], [f"{self.prefix}.self_attn.o_proj.bias"]
        )

    def mlp(self, x: str) -> str:
        mlp, graph, layer = f"{self.prefix}.mlp", self.graph, self.layer
        gate, up = self.weights[f"{mlp}.gate_proj.weight"], self.weights[f"{mlp}.up_proj.weight"]
        both = self._linear(
            x,
            "gate_up",
            np.concatenate((gate, up)),
            [f"{mlp}.gate_proj.bias", f"{mlp}.up_proj.bias"],
        )
        widths = graph.small("mlp.widths", np.array([len(gate), len(up)]))
        graph.nodes_out("Split", [both, widths], [f"{layer}.gate", f"{layer}.up"], axis=2)
        # With alpha = 1, QuickGelu is x * sigmoid(x), SiLU.
        active = graph.contrib("QuickGelu", [f"{layer}.gate"], f"{layer}.active", alpha=1.0)
        product = graph.node("Mul", [active, f"{layer}.up"], f"{layer}.product")
        return self._linear(
            product, "down", self.weights[f"{mlp}.down_proj.weight"], [f"{mlp}.down_proj.bias"]
        )

    def add_norm(self, x: str, skip: str, name: str, weight: str) -> tuple[str, str]:
        """Residual sum and its RMS norm: (normed, sum)."""
        gamma = self.graph.small(f"{name}.gamma", self.weights[weight])
        normed, _, _, total = self.graph.nodes_out(
            "SkipSimplifiedLayerNormalization",
            [x, skip, gamma],
            [f"{name}.normed", "", "", f"{name}.sum"],
            CONTRIB,
            epsilon=self.model.epsilon,
        )
        return normed, total

    def _query_heads(self) -> list[int]:
        group = self.model.group
        return [h * group + j for h in self.heads.local + self.heads.long for j in range(group)]

    def _project_qkv(self, normed: str) -> tuple[str, list[str], list[int]]:
        """One product for all projections, its columns ordered local q, k, v, long q, k, v."""
        model = self.model
        stacked, biases, names, widths = [], [], [], []
        for kind, own in self.kinds.items():
            kv = list(own)
            q = [h * model.group + j for h in kv for j in range(model.group)]
            for part, heads in (("q", q), ("k", kv), ("v", kv)):
                rows = _columns(heads, model.head_dim)
                name = f"{self.prefix}.self_attn.{part}_proj"
                stacked.append(self.weights[f"{name}.weight"][rows])
                bias = self.weights.get(f"{name}.bias")
                biases.append(None if bias is None else bias[rows])
                names.append(f"{self.layer}.{kind}.{part}")
                widths.append(len(rows))
        out = self.linear.matmul(
            self.graph, normed, f"{self.layer}.qkv", np.ascontiguousarray(np.concatenate(stacked).T)
        )
        if any(bias is not None for bias in biases):
            whole = np.concatenate(
                [
                    np.zeros(width, "f4") if b is None else b
                    for b, width in zip(biases, widths, strict=True)
                ]
            )
            out = self._bias(out, f"{self.layer}.qkv", whole)
        return out, names, widths

    def _head_norm(self, x: str, weight: str, heads: int) -> str:
        graph, size = self.graph, self.model.head_dim
        split = graph.small(f"split.{heads}", np.array([0, 0, heads, size]))
        apart = graph.node("Reshape", [x, split], f"{x}.apart")
        gamma = graph.small(weight, self.weights[weight])
        normed = graph.node(
            "SimplifiedLayerNormalization",
            [apart, gamma],
            f"{x}.apart.normed",
            axis=-1,
            stash_type=1,
            epsilon=self.model.epsilon,
        )
        joined = graph.small(f"join.{heads}", np.array([0, 0, heads * size]))
        return graph.node("Reshape", [normed, joined], f"{x}.normed")

    def _linear(self, x: str, name: str, weight_OI: np.ndarray, biases: list[str]) -> str:
        full = f"{self.layer}.{name}"
        out = self.linear.matmul(self.graph, x, full, np.ascontiguousarray(weight_OI.T))
        found = [self.weights.get(bias) for bias in biases]
        if any(bias is None for bias in found):
            return out
        return self._bias(out, full, np.concatenate([bias for bias in found if bias is not None]))

    def _bias(self, x: str, name: str, bias: np.ndarray) -> str:
        return self.graph.node("Add", [x, self.graph.small(f"{name}.bias", bias)], f"{name}.biased")


def _columns(heads: Sequence[int], head_dim: int) -> np.ndarray:
    """Rows of a projection's weight that belong to these heads, in their order."""
    return np.concatenate([np.arange(h * head_dim, (h + 1) * head_dim) for h in heads])
