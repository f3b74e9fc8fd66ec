"""A scheduler that knows where segments end.

A prefill chunk is made of whole segments whenever the step's token budget allows, so that the
shapes a segment is computed with do not depend on what shares its batch; blocks that nobody can
see any more are given back at the boundary; and each request's segments can be told to its client.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.request import Request

from .checks import contract_of
from .ending import end_with_error
from .layout import SegmentLayout
from .metrics import SegmentCounters
from .stopping import stop_at

#: Key of ``vllm_xargs`` in a request that asks for its segments.
SEGMENTS_XARG = "lockstep_segments"


class SegmentScheduler(AsyncScheduler):
    """vLLM's scheduler with chunks that end on boundaries.

    It is an AsyncScheduler because vLLM takes any other class for one that cannot be. Async
    scheduling itself is off (``checks.py`` says why), so every token is known here when the next
    step is made.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        contract = contract_of(self.vllm_config)
        self.layout = SegmentLayout(contract)
        self._ends = contract.document["tokenizer"]["ends"]
        self._managers = self.kv_cache_manager.coordinator.single_type_managers
        self.report = SegmentCounters(contract.digest, self.vllm_config, self.kv_cache_config)
        self._decoding = 0
        for manager in self._managers:
            if hasattr(manager, "open_start"):
                manager.open_start = self._open_start

    def add_request(self, request: Request) -> None:
        stop_at(request.sampling_params, self._ends)
        super().add_request(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        # Before a worker meets a token the policy has taken it, or its request is left out.
        self._advance(
            request
            for request in self.running
            if request.num_tokens > self.layout.seen(request.request_id)
        )
        self._decoding = sum(not request.is_prefill_chunk for request in self.running)
        output = super().schedule(throttle_prefills)
        self._count_chunks(output)
        return output

    def make_stats(self, *args: Any, **kwargs: Any) -> SchedulerStats | None:
        stats = super().make_stats(*args, **kwargs)
        if stats is not None:
            self.report.put(stats, self._managers, self.running)
        return stats

    # What upstream asks about one request

    def _reserve_prefill_lookahead(
        self, request: Request, num_computed_tokens: int, num_new_tokens: int
    ) -> int:
        """The last word on a chunk's length, asked before its blocks are allocated; 0: wait."""
        if request.request_id in self.layout.failed:
            return 0
        offered = super()._reserve_prefill_lookahead(request, num_computed_tokens, num_new_tokens)
        if num_computed_tokens + offered >= request.num_tokens and self.layout.seen(
            request.request_id
        ):
            return offered
        self._advance([request])
        if request.request_id in self.layout.failed:
            return 0
        return self._chunk(request, num_computed_tokens, offered)

    def _chunk(self, request: Request, computed: int, offered: int) -> int:
        """As many whole segments as fit into what is offered.

        One that does not fit waits for the next step, if it would fit there beside one token for
        each request that decodes; else it takes what there is.
        """
        end = computed + offered
        if end >= request.num_tokens:
            return offered
        ends = self.layout.ends(request.request_id)
        fitting = bisect_right(ends, end)
        if fitting and ends[fitting - 1] > computed:
            return ends[fitting - 1] - computed
        stop = ends[fitting] if fitting < len(ends) else request.num_tokens
        room = self.max_num_scheduled_tokens - self._decoding
        threshold = self.scheduler_config.long_prefill_token_threshold
        if threshold > 0:
            room = min(room, threshold)
        return 0 if stop - computed <= room else offered

    def _free_request(
        self, request: Request, delay_free_blocks: bool = False
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        transfer, encoder = super()._free_request(request, delay_free_blocks)
        sampling = request.sampling_params
        asked = sampling is not None and (sampling.extra_args or {}).get(SEGMENTS_XARG)
        if asked or self.layout.seen(request.request_id):
            self._advance([request])
        ends = self.layout.ends(request.request_id)
        self.report.finished(len(ends))
        if asked:
            transfer = {**(transfer or {}), "lockstep": _segments(ends, request.num_tokens)}
        self.layout.forget([request.request_id])
        return transfer, encoder

    # The layout

    def _advance(self, requests: Iterable[Request]) -> None:
        self.layout.advance([(r.request_id, r.all_token_ids) for r in requests])
        if self.layout.failed:
            # Upstream ends these with an error when the step is over.
            failed = [key for key in self.layout.failed if key in self.requests]
            end_with_error(self.grammar_compile_error_reqs, failed)

    def _open_start(self, request_id: str, computed: int) -> int:
        """First token of the segment that token ``computed`` belongs to, as far as is known."""
        return self.layout.segment(request_id, computed)[0]

    def _count_chunks(self, output: SchedulerOutput) -> None:
        for key, count in output.num_scheduled_tokens.items():
            request = self.requests[key]
            # `num_computed_tokens` has been moved past this step's chunk by now.
            end = request.num_computed_tokens
            if count == 1 and end > request.num_prompt_tokens:
                continue
            ends = self.layout.ends(key)
            at = bisect_right(ends, end)
            if at and ends[at - 1] == end:
                self.report.chunk("boundary")
            else:
                self.report.chunk("prompt" if end >= request.num_tokens else "budget")


def _segments(ends: list[int], length: int) -> dict[str, Any]:
    starts = [0, *ends]
    told: dict[str, Any] = {"segments": [list(pair) for pair in zip(starts, ends, strict=False)]}
    if starts[-1] < length:
        told["open"] = [starts[-1], length]
    return told
