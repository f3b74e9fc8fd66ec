"""transformers' own classes, run in segments: every forward pass, with and without a cache.

The backbone is what changes (some trainers call it without the head), so the head, losses and
`generate` stay transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    LlamaForCausalLM,
    LlamaModel,
    MistralForCausalLM,
    MistralModel,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen3ForCausalLM,
    Qwen3Model,
)
from transformers.generation import GenerationMode
from transformers.modeling_outputs import BaseModelOutputWithPast

from lockstep.contract.model_type import FAMILIES
from lockstep.errors import LockstepError
from lockstep.operator.checks import check_boundaries, check_ids

from . import gradient
from .cache import SegmentedCache
from .documents import documents, is_packed
from .segments import Segments, check_dropout

#: Options of a call that change nothing here: counts for the loss, and what packing says twice.
_NEUTRAL = {"num_items_in_batch", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k"}
_NEUTRAL |= {"cache_position", "return_dict", "seq_idx", "logits_to_keep", "output_router_logits"}
_MODES = (
    GenerationMode.GREEDY_SEARCH,
    GenerationMode.SAMPLE,
    GenerationMode.BEAM_SEARCH,
    GenerationMode.BEAM_SAMPLE,
)


class SegmentedBody:
    """The backbone. ``segments`` is its contract and operator; ``gradient_checkpointing`` has
    activations computed again in the backward pass."""

    segments: Segments

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        use_cache: bool | None = None,
        lockstep: Any = None,
        **options: Any,
    ) -> BaseModelOutputWithPast:
        """Last hidden states [B, L, E], zeros where the mask says padding; the cache, if any.

        Rows of several sequences have none.

        With gradient, whole sequences are run and the gradient is that of L_K. Raises
        ``LS_TRANSFORMERS_*`` for what cannot run in segments.
        """
        if lockstep is not None:  # the operator's own pass
            stock: Any = super()
            return stock.forward(
                input_ids=input_ids,
                position_ids=position_ids,
                use_cache=False,
                lockstep=lockstep,
            )
        self._check(input_ids, inputs_embeds, options)
        me: Any = self
        if past_key_values is None and use_cache is None:
            use_cache = (
                me.config.use_cache
                and not torch.is_grad_enabled()
                and not is_packed(input_ids, attention_mask, position_ids)
            )
        if past_key_values is not None or use_cache:
            return self._go_on(input_ids, attention_mask, position_ids, past_key_values)
        found = documents(input_ids, attention_mask, position_ids)
        B, L = input_ids.shape
        model = self.segments.operator(self)
        out_NE = torch.zeros(
            B * L, model.config.hidden_size, dtype=model.dtype, device=model.device
        )
        if not found:
            return BaseModelOutputWithPast(last_hidden_state=out_NE.unflatten(0, (B, L)))
        if torch.is_grad_enabled():
            check_dropout(me)
        plans = []
        for one in found:
            ids_T = check_ids(input_ids[one.row, one.start : one.end], model.vocabulary)
            cuts = check_boundaries(model.plan(ids_T), len(ids_T), model.spec.max)
            plans.append((ids_T.to(model.device), cuts))
        segments = self.segments
        hidden_TE = gradient.hidden(
            model, plans, segments.truncation, bool(me.gradient_checkpointing), segments
        )
        places_T = torch.cat(
            [torch.arange(d.row * L + d.start, d.row * L + d.end) for d in found]
        ).to(model.device)
        out_NE = out_NE.to(hidden_TE.dtype).index_copy(0, places_T, hidden_TE)
        return BaseModelOutputWithPast(last_hidden_state=out_NE.unflatten(0, (B, L)))

    @torch.no_grad()
    def _go_on(
        self, ids_BL: Tensor, attention_mask: Any, position_ids: Any, past: Any
    ) -> BaseModelOutputWithPast:
        """More columns of the rows that a cache holds, or of new ones."""
        if past is None:
            past = SegmentedCache()
        if not isinstance(past, SegmentedCache):
            raise LockstepError(
                "LS_TRANSFORMERS_CACHE",
                f"expected a SegmentedCache, got {type(past).__name__}, which cannot hold what "
                "crosses a boundary",
                "Leave past_key_values out, or pass what an earlier call returned.",
                "past_key_values",
            )
        model = self.segments.operator(self)
        B, L = ids_BL.shape
        before = past.past(B)
        found = documents(ids_BL, attention_mask, position_ids, before, past.columns)
        tokens: list[list[int]] = [[] for _ in range(B)]
        checked = check_ids(ids_BL.flatten(), model.vocabulary).view(B, L).tolist()
        for one in found:
            tokens[one.row] = checked[one.row][one.start : one.end]
        hidden = past.advance(model, tokens, L)
        out_BLE: Any
        if L == 1 and len(found) == B:
            out_BLE = torch.stack(hidden)
        else:
            out_BLE = hidden[0].new_zeros(B, L, model.config.hidden_size)
            for one in found:
                out_BLE[one.row, one.start : one.end] = hidden[one.row]
        return BaseModelOutputWithPast(last_hidden_state=out_BLE, past_key_values=past)

    def _check(self, input_ids: Any, inputs_embeds: Any, options: dict[str, Any]) -> None:
        if input_ids is None or inputs_embeds is not None:
            raise _unsupported("input_ids", "inputs_embeds: policies cut by token ids")
        if input_ids.dim() != 2:
            raise _unsupported("input_ids of shape [batch, length]", f"{tuple(input_ids.shape)}")
        config: Any = self.config  # type: ignore[attr-defined]
        for name in ("output_attentions", "output_hidden_states"):
            if options.pop(name, None) or getattr(config, name, False):
                raise _unsupported(f"{name} to be off", "it on")
        for name, value in options.items():
            if name not in _NEUTRAL and value is not None:
                raise _unsupported("arguments that a segmented model knows", name)


class SegmentedCausal:
    """The causal language model around a `SegmentedBody`."""

    segments: Segments
    #: Told to generate(): every other mode would need to go back behind a boundary.
    _supported_generation_modes = _MODES

    def forward(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: Any = 0,
        **options: Any,
    ) -> Any:
        """As transformers' own; generate() and trainers look at these names."""
        if labels is not None and torch.is_grad_enabled() and use_cache is None:
            use_cache = False
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "labels": labels,
            "use_cache": use_cache,
            "logits_to_keep": logits_to_keep,
        }
        stock: Any = super()
        cached = use_cache or past_key_values is not None
        if not (cached and torch.is_grad_enabled()):
            return stock.forward(**given, **options)
        if labels is not None:
            raise _unsupported("labels without a cache", "both: a cached past has no gradient")
        # Half a gradient, of the head alone, would be worse than none.
        with torch.no_grad():
            return stock.forward(**given, **options)

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *_: Any, **__: Any
    ) -> None:
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise _unsupported(
                "cache_implementation None", f"{generation_config.cache_implementation!r}"
            )
        given = model_kwargs.get("past_key_values")
        if given is not None:
            given._is_user_defined = True
        elif generation_config.use_cache:
            model_kwargs["past_key_values"] = SegmentedCache()

    def _validate_generation_mode(self, generation_mode: Any, *rest: Any, **more: Any) -> None:
        if generation_mode not in _MODES:
            raise _unsupported(
                "greedy search, sampling or beam search",
                f"{getattr(generation_mode, 'value', generation_mode)}",
            )
        stock: Any = super()
        stock._validate_generation_mode(generation_mode, *rest, **more)

    def _set_gradient_checkpointing(self, enable: bool = True, *_: Any, **__: Any) -> None:
        """On the backbone alone: its layers must not run again without their segment's prefix."""
        self.model.gradient_checkpointing = enable  # type: ignore[attr-defined]

    def save_pretrained(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """The weights as they are now under the same contract, which `lockstep serve` accepts."""
        from .saving import save

        stock: Any = super()
        save(self, stock.save_pretrained, save_directory, *args, **options)


_STOCK: dict[str, tuple[type, type]] = {
    "llama": (LlamaForCausalLM, LlamaModel),
    "qwen2": (Qwen2ForCausalLM, Qwen2Model),
    "qwen3": (Qwen3ForCausalLM, Qwen3Model),
    "mistral": (MistralForCausalLM, MistralModel),
}


def _own(family: str) -> tuple[type, type]:
    causal, body = _STOCK[family]
    name = f"Segmented{FAMILIES[family]}"
    made = (
        type(f"{name}ForCausalLM", (SegmentedCausal, causal), {"__module__": __name__}),
        type(f"{name}Model", (SegmentedBody, body), {"__module__": __name__}),
    )
    return made


#: By family: the causal model and its backbone.
CLASSES = {family: _own(family) for family in FAMILIES}
for _causal, _body in CLASSES.values():
    globals()[_causal.__name__], globals()[_body.__name__] = _causal, _body


def adopt(module: Any, config_class: type, segments: Segments) -> Any:
    """Make a stock module, as `loader.load_module` loads it, run in segments. In place."""
    family = module.config.model_type
    causal, body = CLASSES[family]
    module.config.__class__ = config_class
    module.__class__, module.model.__class__ = causal, body
    module.segments = module.model.segments = segments
    return module


def _unsupported(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_TRANSFORMERS_OPTION",
        f"expected {expected}, got {got}",
        "Leave it out; or, for full attention: lockstep detach DIR --out PLAIN",
    )
