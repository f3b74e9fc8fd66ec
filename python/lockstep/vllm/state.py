"""What the layers of a segmented model share on a worker: caches, rotation, the step at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from vllm.forward_context import get_forward_context

from ..contract.reader import Contract
from ..contract.spec import Spec
from ..errors import LockstepError
from ..operator.rope import Rope
from .caches import Cache, CacheMetadata, name_of
from .step import SegmentEnd, SegmentMetadata
from .tracker import QuerySpan, Tracker


class StepObserver(Protocol):
    """Sees what a worker decides, and may overrule what it retrieves: for verification."""

    def cut(self, spans: Sequence[QuerySpan]) -> None:
        """The spans of a step."""
        ...

    def replace_retrieved(self, layer: int, closing: SegmentEnd, positions_HR: Tensor) -> Tensor:
        """What a boundary retrieves, token positions int32 [H, R], in place of what it selected."""
        ...

    def ran(self, hidden_TE: Tensor) -> None:
        """The last hidden states of the step whose spans `cut` told."""
        ...


class SegmentedState:
    """Made with the model; `begin` looks at a batch before its forward pass."""

    def __init__(self, contract: Contract, spec: Spec, rope: Rope, caches: dict[str, Cache]):
        self.contract, self.spec, self.rope, self.caches = contract, spec, rope, caches
        self.step: SegmentMetadata | None = None
        self.observer: StepObserver | None = None
        #: Name of the projection whose rows must not depend on how many there are (`exact_rows`).
        self.exact: str | None = None
        self._tracker: Tracker | None = None

    def begin(self, input_ids: Tensor | None) -> None:
        """Cut the batch into segments and prepare the indices that all layers share."""
        found: Any = get_forward_context().attn_metadata
        if found is None:
            self.step = None
            return
        if isinstance(found, list):
            raise LockstepError(
                "LS_VLLM_UNSUPPORTED",
                "expected one batch a step, got microbatches",
                "Start vLLM without dual-batch overlap.",
            )
        if input_ids is None:
            raise LockstepError(
                "LS_VLLM_UNSUPPORTED",
                "expected token ids, got embeddings: a boundary policy reads tokens",
                "Start vLLM without --enable-prompt-embeds.",
            )
        metadata: dict[str, CacheMetadata] = {k: found[name_of(k)] for k in self.caches}
        tables = {k: m.block_table.cpu().numpy() for k, m in metadata.items()}
        anchor = "pool" if "pool" in metadata else next(iter(metadata))
        main = metadata[anchor]
        if self._tracker is None:
            cache = self.caches[anchor]
            slots = cache.blocks * cache.block
            self._tracker = Tracker(self.contract, slots, cache.block, anchor == "pool")
        edges_R = main.query_start.numpy()
        tokens = int(edges_R[-1])
        if not tokens:
            self.step = None
            return
        spans = self._tracker.cut(
            tables[anchor],
            main.slots_T.cpu().numpy(),
            edges_R,
            main.seq_lens.cpu().numpy(),
            input_ids[:tokens].cpu().numpy().astype(np.int64),
        )
        if self.observer is not None:
            self.observer.cut(spans)
        self.step = SegmentMetadata(
            self.spec, self.rope, self.caches, metadata, tables, spans, tokens
        )

    def ran(self, hidden_TE: Tensor) -> None:
        """The forward pass of the step that `begin` prepared is over."""
        if self.step is not None and self.observer is not None:
            self.observer.ran(hidden_TE)
