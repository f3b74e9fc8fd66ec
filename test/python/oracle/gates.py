"""Gated heads by their definition: both uses of every head, mixed; float64, dense, token by token.

Layers from 1 on retrieve in every head; layer 0 is local. What the local use sees of other segments
carries gradient, what the long use sees is constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from oracle.model import Oracle, Spec, State, segments


def long_everywhere(spec: Spec, layers: int, kv_heads: int) -> Spec:
    every = tuple(range(kv_heads))
    return replace(
        spec,
        retrieval_layers=tuple(range(1, layers)),
        long_heads=((),) + (every,) * (layers - 1),
    )


class GatedOracle(Oracle):
    """``gates``: [layers - 1, KV heads]. Its "logits" are the last hidden states."""

    def __init__(self, weights: Mapping[str, Tensor], config, spec: Spec, gates: Tensor):
        hidden = torch.eye(config.hidden_size, dtype=torch.float64)
        super().__init__({**weights, "lm_head.weight": hidden}, config, spec)
        self.spec = long_everywhere(spec, self.layers, self.kv_heads)
        self.gates = gates

    def attend(
        self, layer: int, queries_THD: list[Tensor], state: State, start: int
    ) -> list[Tensor]:
        both = self.spec
        self.spec = replace(both, long_heads=((),) * self.layers)
        local = super().attend(layer, queries_THD, state, start)
        self.spec = both
        if layer == 0:
            return local
        long = super().attend(layer, queries_THD, state, start)
        mixed = []
        for near, far in zip(local, long, strict=True):
            heads = []
            for head in range(self.kv_heads):
                size = self.group * self.head_dim
                own = slice(head * size, (head + 1) * size)
                gate = self.gates[layer - 1, head]
                heads.append(gate * far[own] + (1 - gate) * near[own])
            mixed.append(torch.cat(heads))
        return mixed


def gradient(
    weights: Mapping[str, Tensor],
    config,
    spec: Spec,
    theta: Tensor,
    document: tuple[list[int], list[int]],
    teacher_TE: Tensor,
    whole: float,
    truncation: int,
) -> tuple[float, Tensor]:
    """Error and d(error)/d(theta), where gates = sigmoid(theta): the truncated objective with
    l_i = the squared distance of segment i's hidden states from the teacher's, over ``whole``."""
    ids, boundaries = document
    leaf = theta.detach().clone().requires_grad_()
    plain = GatedOracle(weights, config, spec, torch.sigmoid(theta.detach()))
    _, found, held = plain.forward(ids, boundaries)
    by_end = {boundary.at: boundary for boundary in found}
    tiles = segments(boundaries, len(ids))
    total = 0.0
    for i, (start, end) in enumerate(tiles):
        first = max(0, i - truncation)
        origin = tiles[first][0]
        oracle = GatedOracle(weights, config, spec, 1 / (1 + torch.exp(-leaf)))
        state = held.constant(origin, by_end.get(origin))
        hidden = torch.zeros(0)
        for s, e in tiles[first : i + 1]:
            used = by_end[e].used if e in by_end else {}
            chosen: dict[tuple[int, int], list[list[int]]] = {
                (e, layer): rows for layer, rows in used.items()
            }
            hidden = oracle.segment(state, ids[s:e], close=e in by_end, replace=chosen)
        loss = ((hidden - teacher_TE[start:end]) ** 2).sum() / whole
        loss.backward()
        total += float(loss.detach())
    assert leaf.grad is not None
    return total, leaf.grad


def mass(
    oracle: Oracle, ids: Sequence[int], boundaries: list[int]
) -> tuple[list[list[float]], int]:
    """Per layer and KV head: what full attention puts on keys that a local head would not see,
    summed over queries, averaged over the group; and the number of queries that have such keys."""
    spec, starts = oracle.spec, {}
    for s, e in segments(boundaries, len(ids)):
        starts |= {t: s for t in range(s, e)}
    total = [[0.0] * oracle.kv_heads for _ in range(oracle.layers)]
    weights = oracle.weights
    hidden = [weights["model.embed_tokens.weight"][token] for token in ids]
    for layer in range(oracle.layers):
        name = f"model.layers.{layer}"
        normed = [oracle.norm(f"{name}.input_layernorm", x_E) for x_E in hidden]
        q = [oracle.heads(layer, "q", oracle.query_heads, x_E) for x_E in normed]
        k = [oracle.heads(layer, "k", oracle.kv_heads, x_E) for x_E in normed]
        v = [oracle.heads(layer, "v", oracle.kv_heads, x_E) for x_E in normed]
        for t in range(len(ids)):
            outs = []
            for query_head in range(oracle.query_heads):
                head = query_head // oracle.group
                query = oracle.rotate(q[t][query_head], t)
                keys = torch.stack([oracle.rotate(k[j][head], j) for j in range(t + 1)])
                p = torch.softmax(keys @ query / oracle.head_dim**0.5, 0)
                outs.append(p @ torch.stack([v[j][head] for j in range(t + 1)]))
                unseen = [float(p[j]) for j in range(t) if spec.sinks <= j < starts[t] - spec.carry]
                total[layer][head] += sum(unseen) / oracle.group
            x_E = hidden[t] + oracle.linear(f"{name}.self_attn.o_proj", torch.cat(outs))
            post = oracle.norm(f"{name}.post_attention_layernorm", x_E)
            hidden[t] = x_E + oracle.mlp(layer, post)
    queries = sum(starts[t] - spec.carry > spec.sinks for t in range(len(ids)))
    return total, queries
