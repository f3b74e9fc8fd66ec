"""The segmented forward pass by SEMANTICS sections 2 to 4: float64, dense, one token at a time.

Weights are taken by their checkpoint names and multiplied here; no Hugging Face module runs. Only
the inverse frequencies come from transformers, because section 3 says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from oracle import retrieval


@dataclass(frozen=True)
class Spec:
    """S is not here: segments are given. Names as in SEMANTICS section 1."""

    carry: int
    sinks: int
    retrieval_size: int
    recipe: str
    retrieval_layers: tuple[int, ...]
    long_heads: tuple[tuple[int, ...], ...]
    carry_heads: str = "local"
    block: int = 32
    distance: int = 128
    window: int = 64


@dataclass
class Row:
    """What one token left in one layer: raw key and value, [KV heads, D] each."""

    key_HD: Tensor
    value_HD: Tensor

    def constant(self) -> Row:
        return Row(self.key_HD.detach(), self.value_HD.detach())


@dataclass
class Boundary:
    """What a boundary e_i retrieved. Lists run over the layer's long heads, ascending."""

    at: int
    #: pool positions used by the next segment (the replacement, where one was given)
    used: dict[int, list[list[int]]] = field(default_factory=dict)
    #: pool positions that the oracle itself selects
    selected: dict[int, list[list[int]]] = field(default_factory=dict)
    #: [H_long, Q, D] group means and [H_long, N, D] keys of the eligible rows that decided; blocks:
    #: [H_long, g, Q, D] queries whose products with raw keys are the logits
    queries_HQD: dict[int, Tensor] = field(default_factory=dict)
    keys_HND: dict[int, Tensor] = field(default_factory=dict)


#: (boundary, layer) -> pool positions per long head, to go on with another runtime's choice
Replacements = Mapping[tuple[int, int], list[list[int]]]


@dataclass
class State:
    """Everything that was computed so far: per layer one row per token, and the last boundary."""

    rows: list[list[Row]]
    boundary: Boundary | None = None

    @property
    def position(self) -> int:
        return len(self.rows[0])

    def constant(self, position: int, boundary: Boundary | None) -> State:
        """The state after ``position`` tokens with every gradient stopped."""
        rows = [[row.constant() for row in layer[:position]] for layer in self.rows]
        return State(rows, boundary)


def segments(boundaries: list[int], length: int) -> list[tuple[int, int]]:
    """Tiles [s_i, e_i) of a sequence; the last may be open."""
    edges = [0, *boundaries]
    if edges[-1] != length:
        edges.append(length)
    assert all(a < b for a, b in pairwise(edges)), edges
    return list(pairwise(edges))


class Oracle:
    """A model as a dictionary of float64 weights (checkpoint names) and a transformers config."""

    def __init__(self, weights: Mapping[str, Tensor], config, spec: Spec):
        self.weights = dict(weights)
        self.spec = spec
        self.layers = config.num_hidden_layers
        self.query_heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.group = self.query_heads // self.kv_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.query_heads
        self.epsilon = config.rms_norm_eps
        assert config.hidden_act == "silu"
        rope = config.rope_parameters
        if rope["rope_type"] == "default":
            exponent = torch.arange(0, self.head_dim, 2, dtype=torch.float32) / self.head_dim
            inverse, factor = 1.0 / (rope["rope_theta"] ** exponent), 1.0
        else:
            inverse, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, torch.device("cpu"))
        assert inverse.dtype == torch.float32
        self.inverse = inverse.double()
        self.rope_factor = float(factor)

    # The parts of a decoder layer, for one token's vector.

    def linear(self, name: str, x_E: Tensor) -> Tensor:
        y = self.weights[f"{name}.weight"] @ x_E
        bias = self.weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def norm(self, name: str, x_E: Tensor) -> Tensor:
        mean_square = (x_E * x_E).mean(-1, keepdim=True)
        return self.weights[f"{name}.weight"] * x_E / torch.sqrt(mean_square + self.epsilon)

    def heads(self, layer: int, part: str, count: int, x_E: Tensor) -> Tensor:
        """Raw heads of one token: projection, bias, and query/key norm where there is one."""
        name = f"model.layers.{layer}.self_attn"
        y_HD = self.linear(f"{name}.{part}_proj", x_E).reshape(count, self.head_dim)
        return self.norm(f"{name}.{part}_norm", y_HD) if self.has_norm(name, part) else y_HD

    def has_norm(self, name: str, part: str) -> bool:
        return f"{name}.{part}_norm.weight" in self.weights

    def mlp(self, layer: int, x_E: Tensor) -> Tensor:
        name = f"model.layers.{layer}.mlp"
        gate = self.linear(f"{name}.gate_proj", x_E)
        up = self.linear(f"{name}.up_proj", x_E)
        return self.linear(f"{name}.down_proj", gate / (1 + torch.exp(-gate)) * up)

    @cache  # noqa: B019 - an oracle lives for one test
    def turn(self, position: int) -> tuple[Tensor, Tensor]:
        """cos and sin of a position's angles, with the scaling's attention factor. [D / 2] each"""
        angle = position * self.inverse
        return torch.cos(angle) * self.rope_factor, torch.sin(angle) * self.rope_factor

    def rotate(self, x_D: Tensor, position: int) -> Tensor:
        cos, sin = self.turn(position)
        half = self.head_dim // 2
        first, second = x_D[:half], x_D[half:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin])

    # Sections 2 and 3: what a query sees, and where it stands.

    def prefix(self, layer: int, head: int, start: int, boundary: Boundary | None) -> list[int]:
        """Tokens that a KV head sees before its own segment [start, ...), in order."""
        spec = self.spec
        sinks = list(range(min(spec.sinks, start)))
        carry = list(range(max(spec.sinks, start - spec.carry), start))
        if head not in spec.long_heads[layer]:
            return sinks + carry
        retrieved = self.retrieved(layer, head, boundary)
        return sinks + retrieved + (carry if spec.carry_heads == "all" else [])

    def retrieved(self, layer: int, head: int, boundary: Boundary | None) -> list[int]:
        """The tokens that a long KV head retrieved at the boundary before its segment."""
        spec = self.spec
        if layer not in spec.retrieval_layers or boundary is None:
            return []
        index = sorted(spec.long_heads[layer]).index(head)
        return [spec.sinks + n for n in boundary.used[layer][index]]

    def attend(
        self, layer: int, queries_THD: list[Tensor], state: State, start: int
    ) -> list[Tensor]:
        """Attention outputs of the segment's tokens, [heads * D] each. Rows are in the state."""
        rows = state.rows[layer]
        out_THD: list[list[Tensor]] = [[] for _ in queries_THD]
        for head in range(self.kv_heads):
            long = head in self.spec.long_heads[layer]
            constant = set(self.retrieved(layer, head, state.boundary)) if long else set()
            tokens = self.prefix(layer, head, start, state.boundary)
            assert len(set(tokens)) == len(tokens) and all(n < start for n in tokens)
            keys: list[Tensor] = []
            values: list[Tensor] = []
            for j, token in enumerate(tokens):
                # Gradient crosses a boundary in heads that carry, never by retrieval (section 6).
                held = token in constant or (long and self.spec.carry_heads == "local")
                row = rows[token].constant() if held else rows[token]
                keys.append(self.rotate(row.key_HD[head], start - len(tokens) + j))
                values.append(row.value_HD[head])
            for i, query_HD in enumerate(queries_THD):
                t = start + i
                keys.append(self.rotate(rows[t].key_HD[head], t))
                values.append(rows[t].value_HD[head])
                keys_ND, values_ND = torch.stack(keys), torch.stack(values)
                for query_head in range(head * self.group, (head + 1) * self.group):
                    query_D = self.rotate(query_HD[query_head], t)
                    scores_N = keys_ND @ query_D / self.head_dim**0.5
                    out_THD[i].append(torch.softmax(scores_N, dim=0) @ values_ND)
        return [torch.cat(heads) for heads in out_THD]

    # One step: (C_i, R_i, o_i) = F(x_i, C_{i-1}, R_{i-1}).

    def segment(
        self, state: State, ids: list[int], *, close: bool, replace: Replacements | None = None
    ) -> Tensor:
        """Run one segment; the state grows by its rows and, closed, by its boundary. -> [T, V]"""
        start = state.position
        hidden = [self.weights["model.embed_tokens.weight"][token] for token in ids]
        boundary = Boundary(start + len(ids))
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            queries = []
            for x_E in hidden:
                x_E = self.norm(f"{name}.input_layernorm", x_E)
                queries.append(self.heads(layer, "q", self.query_heads, x_E))
                key_HD = self.heads(layer, "k", self.kv_heads, x_E)
                value_HD = self.heads(layer, "v", self.kv_heads, x_E)
                state.rows[layer].append(Row(key_HD, value_HD))
            mixed = self.attend(layer, queries, state, start)
            for i, out in enumerate(mixed):
                x_E = hidden[i] + self.linear(f"{name}.self_attn.o_proj", out)
                normed = self.norm(f"{name}.post_attention_layernorm", x_E)
                hidden[i] = x_E + self.mlp(layer, normed)
            if close and layer in self.spec.retrieval_layers:
                self.retrieve(layer, queries, state, boundary, replace)
        if close:
            state.boundary = boundary
        head = "lm_head" if "lm_head.weight" in self.weights else "model.embed_tokens"
        return torch.stack([self.linear(head, self.norm("model.norm", x_E)) for x_E in hidden])

    def retrieve(
        self,
        layer: int,
        queries: list[Tensor],
        state: State,
        boundary: Boundary,
        replace: Replacements | None,
    ) -> None:
        """Section 4 at the boundary: from the pool [A, e_i) by the segment's last queries."""
        heads = sorted(self.spec.long_heads[layer])
        spec = self.spec
        # With a carry in all heads the eligible rows end where it begins.
        carried = spec.carry if spec.carry_heads == "all" else 0
        pool = state.rows[layer][spec.sinks : max(spec.sinks, boundary.at - carried)]
        keys_HND = torch.zeros(len(heads), len(pool), self.head_dim, dtype=torch.float64)
        for h, head in enumerate(heads):
            for n, row in enumerate(pool):
                keys_HND[h, n] = row.key_HD[head].detach()
        boundary.keys_HND[layer] = keys_HND
        if spec.recipe == "blocks":
            self.retrieve_blocks(layer, queries[-spec.window :], heads, pool, boundary)
        else:
            recent = queries[-64:]
            queries_HQD = torch.zeros(len(heads), len(recent), self.head_dim, dtype=torch.float64)
            for h, head in enumerate(heads):
                for i, query_HD in enumerate(recent):
                    queries_HQD[h, i] = self.mean(query_HD, head)
            boundary.queries_HQD[layer] = queries_HQD
            boundary.selected[layer] = retrieval.select(
                queries_HQD.numpy(), keys_HND.numpy(), spec.retrieval_size, spec.recipe
            )
        other = None if replace is None else replace.get((boundary.at, layer))
        boundary.used[layer] = boundary.selected[layer] if other is None else other

    def retrieve_blocks(
        self,
        layer: int,
        recent: list[Tensor],
        heads: list[int],
        pool: list[Row],
        boundary: Boundary,
    ) -> None:
        """Recipe blocks: attention's own logits of queries at Delta and keys at 0."""
        spec = self.spec
        asked = torch.zeros(len(heads), self.group, len(recent), self.head_dim, dtype=torch.float64)
        selected = []
        for h, head in enumerate(heads):
            logits = np.zeros((self.group * len(recent), len(pool)))
            for g in range(self.group):
                for i, query_HD in enumerate(recent):
                    query_D = self.rotate(query_HD[head * self.group + g].detach(), spec.distance)
                    asked[h, g, i] = query_D * self.rope_factor / self.head_dim**0.5
                    for n, row in enumerate(pool):
                        key_D = self.rotate(row.key_HD[head].detach(), 0)
                        logit = query_D @ key_D / self.head_dim**0.5
                        logits[g * len(recent) + i, n] = float(logit)
            selected.append(retrieval.select_blocks(logits, spec.retrieval_size, spec.block))
        boundary.queries_HQD[layer], boundary.selected[layer] = asked, selected

    def mean(self, query_HD: Tensor, head: int) -> Tensor:
        """Mean of a token's raw queries over the query heads that follow KV head ``head``."""
        total_D = torch.zeros(self.head_dim, dtype=torch.float64)
        for query_head in range(head * self.group, (head + 1) * self.group):
            total_D = total_D + query_HD[query_head].detach()
        return total_D / self.group

    def start(self) -> State:
        return State([[] for _ in range(self.layers)])

    @torch.no_grad()
    def forward(
        self, ids: list[int], boundaries: list[int], replace: Replacements | None = None
    ) -> tuple[Tensor, list[Boundary], State]:
        """Logits [T, V], what every boundary retrieved, and the rows of all tokens."""
        state, logits, found = self.start(), [], []
        for start, end in segments(boundaries, len(ids)):
            close = end in boundaries
            logits.append(self.segment(state, ids[start:end], close=close, replace=replace))
            if close:
                assert state.boundary is not None
                found.append(state.boundary)
        return torch.cat(logits), found, state
