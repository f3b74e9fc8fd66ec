"""A Llama, Qwen2, Qwen3 or Mistral model run in segments (SEMANTICS.md 2-4), in three forms.

The transformers module stays stock at rest: for the time of a forward pass its rotary embedding is
made the identity and its attention is ours, so `model.module` can be saved, or run with full
attention, at any time.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ..contract.model_type import PLAIN as ARCHITECTURES
from ..contract.model_type import plain_type
from ..contract.spec import Spec
from ..errors import LockstepError
from . import lm_head
from .attention import NAME, Context
from .batch_invariant import exact_keys
from .checks import check_boundaries, check_ids
from .contexts import (
    PackedSpan,
    ParallelContext,
    StepContext,
    StepsContext,
    TrainContext,
    packed_spans,
)
from .head_groups import HeadGroups
from .recompute import recomputed
from .rope import Identity, Rope
from .state import Boundary, State

if TYPE_CHECKING:
    from ..contract.planner import Planner

Form = Literal["parallel", "steps", "tokens"]
LogitRows = Literal["none", "last", "all"]


@dataclass
class Trace:
    """What a sequence retrieved: per boundary the positions and queries, and the pool's keys.

    ``hidden`` are the last hidden states [T, E] of the same pass.
    """

    boundaries: list[Boundary]
    pool_keys: dict[int, Tensor]
    spec: Spec
    hidden: Tensor

    def keys(self, boundary: Boundary, layer: int) -> Tensor:
        """Raw keys [H_long, N, D] of the rows that could be retrieved at the boundary."""
        return self.pool_keys[layer][:, : self.spec.eligible_at(boundary.at)]


class Model:
    """The operator around a transformers causal language model."""

    def __init__(self, module: Any, spec: Spec, contract: Any = None):
        config = module.config
        check_architecture(config)
        self.module, self.config, self.spec, self.contract = module, config, spec, contract
        self.vocabulary: int = config.vocab_size
        weight = module.get_input_embeddings().weight
        self.dtype, self.device = weight.dtype, weight.device
        head_dim = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        spec.check(config.num_hidden_layers, config.num_key_value_heads)
        self.layout = HeadGroups.of(
            spec, config.num_key_value_heads, config.num_attention_heads, head_dim, self.device
        )
        self.rope = Rope.of(module.model.rotary_emb, config, self.dtype, self.device)
        self._stock_rotary = module.model.rotary_emb
        self._identity = Identity()
        self._planner: Any = None
        if self.dtype == torch.float64:
            _native_norms(module)

    @classmethod
    def from_module(cls, module: Any, spec: Spec) -> Model:
        """Wrap a module without a contract; its plan is a cut every ``spec.max`` tokens."""
        return cls(module, spec)

    @property
    def head(self) -> nn.Linear:
        return self.module.lm_head

    # Plans

    def plan(self, ids: Any) -> list[int]:
        """Decided cuts e_i of a sequence, as the contract's policy makes them."""
        tokens = check_ids(ids, self.vocabulary)
        if self.contract is None:
            return list(range(self.spec.max, len(tokens) + 1, self.spec.max))
        return self.planner.plan(tokens.tolist())

    @property
    def planner(self) -> Planner:
        """The contract's planner, made on first use."""
        if self._planner is None:
            from ..contract.planner import Planner

            self._planner = Planner(self.contract)
        return self._planner

    # Whole sequences

    def hidden(
        self, ids: Any, boundaries: Sequence[int] | None = None, *, form: Form = "parallel"
    ) -> Tensor:
        """Last hidden states [T, E] of a sequence in any of the three forms."""
        ids_T, cuts = self._sequence(ids, boundaries)
        if form == "parallel":
            return self.hidden_many([(ids_T, cuts)])[0]
        out_TE = torch.empty(
            len(ids_T), self.config.hidden_size, dtype=self.dtype, device=self.device
        )
        for start, hidden_tE in self._run(ids_T, cuts, form):
            out_TE[start : start + len(hidden_tE)] = hidden_tE
        return out_TE

    def logits(
        self, ids: Any, boundaries: Sequence[int] | None = None, *, form: Form = "parallel"
    ) -> Tensor:
        """Logits [T, V] in float32, or float64 for a float64 model.

        ``form``: "parallel" runs the whole sequence layer by layer, "steps" segment by segment,
        "tokens" token by token as decoding does. ``boundaries`` defaults to ``plan(ids)``.
        """
        with torch.no_grad():
            return lm_head.logits(self.head, self.hidden(ids, boundaries, form=form))

    @torch.no_grad()
    def hidden_many(self, docs: Sequence[tuple[Any, Sequence[int] | None]]) -> list[Tensor]:
        """Last hidden states [T_d, E] of several documents, in one padding-free parallel pass."""
        return self._parallel([self._sequence(ids, cuts) for ids, cuts in docs])[0]

    @torch.no_grad()
    def nll(self, ids: Any, boundaries: Sequence[int] | None = None) -> Tensor:
        """-log p(x_{t+1}) in float64 nats, [T - 1]; memory grows with the pool alone."""
        ids_T, cuts = self._sequence(ids, boundaries)
        out = torch.empty(max(0, len(ids_T) - 1), dtype=torch.float64, device=self.device)
        for start, hidden_tE in self._run(ids_T, cuts, "steps"):
            targets_t = ids_T[start + 1 : start + 1 + len(hidden_tE)]
            if len(targets_t):
                out[start : start + len(targets_t)] = lm_head.nll(
                    self.head, hidden_tE[: len(targets_t)], targets_t
                )
        return out

    @torch.no_grad()
    def trace(self, ids: Any, boundaries: Sequence[int] | None = None) -> Trace:
        """What every boundary retrieved, with the queries and keys they were selected by."""
        (hidden_TE,), context = self._parallel([self._sequence(ids, boundaries)], keep=True)
        if context is None:
            return Trace([], {}, self.spec, hidden_TE)
        found = list(context.boundaries[0].values())
        return Trace(found, context.pools[0], self.spec, hidden_TE)

    def retrievals(self, ids: Any, boundaries: Sequence[int] | None = None) -> list[Boundary]:
        """Per boundary and long layer the selected pool positions [H_long, R']."""
        return self.trace(ids, boundaries).boundaries

    # One sequence, step by step

    def state(self) -> State:
        """A new, empty sequence."""
        return State(self.layout, self.spec, torch.empty(0, dtype=self.dtype, device=self.device))

    @torch.no_grad()
    def step_hidden(self, state: State, ids: Any) -> Tensor:
        """Run more tokens of the open segment; last hidden states [T, E] (``LS_STATE_LENGTH``)."""
        return self.step_hidden_many([(state, ids)])[0]

    @torch.no_grad()
    def step_hidden_many(self, parts: Sequence[tuple[State, Any]]) -> list[Tensor]:
        """`step_hidden` of several sequences, (state, ids) each, in one pass without padding."""
        checked = [(state, check_ids(ids, self.vocabulary, self.device)) for state, ids in parts]
        for state, ids_T in checked:
            if state.open_length + len(ids_T) > self.spec.max:
                raise LockstepError(
                    "LS_STATE_LENGTH",
                    f"expected at most {self.spec.max - state.open_length} more tokens in the open "
                    f"segment, got {len(ids_T)}",
                    "close the segment where the policy cuts",
                )
        sizes = [len(ids_T) for _, ids_T in checked]
        if not sum(sizes):
            empty = torch.empty(0, self.config.hidden_size, dtype=self.dtype, device=self.device)
            return [empty for _ in parts]
        contexts = [
            (StepContext(self.layout, self.rope, state, len(ids_T)), len(ids_T))
            for state, ids_T in checked
            if len(ids_T)
        ]
        hidden_TE = self.forward(torch.cat([ids for _, ids in checked]), StepsContext(contexts))
        for state, ids_T in checked:
            state.position += len(ids_T)
            state.open_length += len(ids_T)
        return list(hidden_TE.split(sizes))

    @torch.no_grad()
    def step(self, state: State, ids: Any, rows: LogitRows = "last") -> Tensor:
        """Run more tokens of the open segment; logits of no row, the last, or all: [rows, V]."""
        hidden_TE = self.step_hidden(state, ids)
        hidden_TE = {"none": hidden_TE[:0], "last": hidden_TE[-1:], "all": hidden_TE}[rows]
        return lm_head.logits(self.head, hidden_TE)

    @torch.no_grad()
    def close(self, state: State) -> dict[int, Tensor]:
        """Close the open segment; what each layer of L_long retrieved, [H_long, R'] each."""
        return state.close().positions

    # The pass itself

    def forward(self, ids_T: Tensor, context: Context) -> Tensor:
        """Last hidden states [T, E] of packed tokens, attention as the context says."""
        with self._segmented(), self._recomputed(context):
            out = self.module.model(
                input_ids=ids_T[None],
                position_ids=torch.zeros_like(ids_T)[None],
                use_cache=False,
                lockstep=context,
            )
        return out.last_hidden_state[0]

    @contextmanager
    def _recomputed(self, context: Context) -> Iterator[None]:
        """For a training pass that asks for it, layers that keep their inputs alone."""
        if not (isinstance(context, TrainContext) and context.recompute):
            yield
            return

        @contextmanager
        def replay() -> Iterator[None]:
            with self._segmented(), context.replay():
                yield

        with recomputed(self.module.model.layers, replay):
            yield

    @contextmanager
    def _segmented(self) -> Iterator[None]:
        body, config = self.module.model, self.config
        stock = config._attn_implementation
        body.rotary_emb, config._attn_implementation = self._identity, NAME
        try:
            with exact_keys(body, self.spec):
                yield
        finally:
            body.rotary_emb, config._attn_implementation = self._stock_rotary, stock

    def _sequence(self, ids: Any, boundaries: Sequence[int] | None) -> tuple[Tensor, list[int]]:
        ids_T = check_ids(ids, self.vocabulary, self.device)
        cuts = self.plan(ids_T) if boundaries is None else boundaries
        return ids_T, check_boundaries(cuts, len(ids_T), self.spec.max)

    def _run(self, ids_T: Tensor, cuts: Sequence[int], form: Form) -> Iterator[tuple[int, Tensor]]:
        """Hidden states segment by segment, [(start, [t, E])], in the forms that keep a state."""
        if form not in ("steps", "tokens"):
            raise LockstepError(
                "LS_MODEL_FORM",
                f"expected form 'parallel', 'steps' or 'tokens', got {form!r}",
                "pass one of these names as form",
            )
        state, closed = self.state(), set(cuts)
        for span in packed_spans(len(ids_T), cuts):
            stride = span.length if form == "steps" else 1
            end = span.start + span.length
            for s in range(span.start, end, stride):
                yield s, self.step_hidden(state, ids_T[s : s + stride])
            # What a boundary at the very end would retrieve, nobody sees.
            if end in closed and end < len(ids_T):
                self.close(state)

    def _parallel(
        self, docs: Sequence[tuple[Tensor, list[int]]], keep: bool = False
    ) -> tuple[list[Tensor], ParallelContext | None]:
        spans: list[list[PackedSpan]] = []
        offset = 0
        for ids_T, cuts in docs:
            spans.append(packed_spans(len(ids_T), cuts, offset))
            offset += len(ids_T)
        if not offset:
            empty = torch.empty(0, self.config.hidden_size, dtype=self.dtype, device=self.device)
            return [empty for _ in docs], None
        ends = [{e for e in cuts if keep or e < len(ids_T)} for ids_T, cuts in docs]
        context = ParallelContext(self.layout, self.spec, self.rope, spans, ends, keep)
        hidden_TE = self.forward(torch.cat([ids_T for ids_T, _ in docs]), context)
        return list(hidden_TE.split([len(ids_T) for ids_T, _ in docs])), context


def check_architecture(config: Any) -> None:
    """Refuse other families (``LS_MODEL_ARCHITECTURE``), sliding windows (``LS_MODEL_SLIDING``)."""
    if plain_type(config.model_type) not in ARCHITECTURES:
        raise LockstepError(
            "LS_MODEL_ARCHITECTURE",
            f"expected a model of type {', '.join(ARCHITECTURES)}, got {config.model_type!r}",
            "use a Llama, Mistral, Qwen2 or Qwen3 checkpoint",
            "model_type",
        )
    if slides(config):
        raise LockstepError(
            "LS_MODEL_SLIDING",
            f"expected full attention in every layer, got sliding_window {config.sliding_window}",
            "This model does not fit: use one with full attention in every layer.",
            "sliding_window",
        )


def slides(config: Any) -> bool:
    """Whether a layer of the configuration has a sliding window."""
    # Qwen's layers slide by layer_types alone, whatever window it states.
    sliding = "sliding_attention" in (getattr(config, "layer_types", None) or [])
    stated = getattr(config, "sliding_window", None) is not None
    return sliding or (stated and plain_type(config.model_type) in ("llama", "mistral"))


def _native_norms(module: nn.Module) -> None:
    """Let RMSNorm compute in float64: transformers' own goes through float32 whatever comes in."""

    def forward(self: Any, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * (x * scale)

    for part in module.modules():
        if hasattr(part, "variance_epsilon"):
            part.forward = types.MethodType(forward, part)
