"""lm-evaluation-harness on a segmented checkpoint:

    python -m lockstep.lm_eval run --model lockstep --model_args pretrained=DIR --tasks ruler_cwe

The command is lm_eval's own; this module adds the model ``lockstep`` to its list, which version
0.4.13 has no entry point for. Nothing is cut off on the left and nothing is windowed: a segmented
model reads a text of any length from its start.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import lockstep.transformers  # noqa: F401  (registers the checkpoints' classes)

from .errors import LockstepError
from .install import install
from .operator import lm_head
from .tokenizer.encoding import token_ids
from .tokenizer.file import load_tokenizer
from .transformers.cache import SegmentedCache
from .transformers.loading import load


def _line(error: LockstepError) -> str:
    return f"error {error.code}: {error.message}\nfix: {error.fix}"


try:
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import (
        handle_stop_sequences,
        normalize_gen_kwargs,
        postprocess_generated_text,
    )
    from lm_eval.models.utils_hf import stop_sequences_criteria
except ImportError as error:
    _missing = LockstepError(
        "LS_LM_EVAL_MISSING",
        f"expected the package lm_eval, got: {error}",
        install("eval"),
    )
    if __name__ == "__main__":
        sys.exit(_line(_missing))
    raise _missing from error

CHUNK = 4  # continuations of one context that run together at least


@register_model("lockstep")
class SegmentedLM(TemplateLM):
    """A checkpoint with a contract. ``pretrained``: its folder. ``batch_size``: rows that generate
    together. ``dtype``, ``device``: as for `lockstep.load`.

    Raises ``LS_LM_EVAL_OPTION`` for other arguments, and what `lockstep.load` raises.
    """

    def __init__(
        self,
        pretrained: str,
        dtype: str = "float32",
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        max_gen_toks: int = 256,
        tokenizer: str | None = None,
        **unknown: Any,
    ):
        super().__init__()
        if unknown:
            raise _option("no other argument of the model", next(iter(unknown)))
        if tokenizer not in (None, pretrained):
            raise _option("the checkpoint's own tokenizer", f"tokenizer={tokenizer}")
        if not str(batch_size).isdecimal() or int(batch_size) < 1:
            raise _option("batch_size to be a number", f"{batch_size!r}")
        from transformers import AutoTokenizer

        self.batch_size = int(batch_size)
        self.max_gen_toks = int(max_gen_toks)
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            logging.getLogger(__name__).warning("no CUDA device here: running on the CPU")
            device = "cpu"  # lm_eval asks for cuda:0 where nobody named a device
        # Not by AutoModelForCausalLM: it would run a checkpoint without a contract whole.
        self.module: Any = load(pretrained, dtype=dtype, device_map=device)
        self.model = self.module.segments.operator(self.module.model)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(pretrained)
        self._plain = load_tokenizer(pretrained)
        rules = self.module.segments.contract.document["tokenizer"]
        self._bos, self._ends = rules["bos"], list(rules["ends"])

    # Tokens

    @property
    def eot_token_id(self) -> int:
        if not self._ends:
            raise _option("a checkpoint whose tokenizer has an end token", "none")
        own = self.tokenizer.eos_token_id
        return int(own if own in self._ends else self._ends[0])

    @property
    def prefix_token_id(self) -> int:
        return self.eot_token_id if self._bos is None else int(self._bos)

    @property
    def tokenizer_name(self) -> str:
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Ids by tokenizer.json, behind the BOS that the contract asks for."""
        ids = token_ids(self._plain, string)
        if self._bos is None or add_special_tokens is False or ids[:1] == [self._bos]:
            return ids
        return [self._bos, *ids]

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    # Requests

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: Any, disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Each context once, and its continuations from forks of what it left behind."""
        by_context: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for n, (_pair, context, _continuation) in enumerate(requests):
            by_context[tuple(context)].append(n)
        found: dict[int, tuple[float, bool]] = {}
        for context, members in self._bar(by_context.items(), disable_tqdm):
            start = SegmentedCache()
            last_1E = start.advance(self.model, [list(context)], len(context))[0][-1:]
            size = max(CHUNK, self.batch_size)
            for at in range(0, len(members), size):
                some = members[at : at + size]
                answers = [list(requests[n][2]) for n in some]
                for n, one in zip(some, self._scores(start, last_1E, answers), strict=True):
                    found[n] = one
        out = [found[n] for n in range(len(requests))]
        for (pair, *_rest), one in zip(requests, out, strict=True):
            if pair is not None:
                self.cache_hook.add_partial("loglikelihood", pair, one)
        return out

    def _scores(
        self, start: SegmentedCache, last_1E: Tensor, answers: Sequence[list[int]]
    ) -> Iterator[tuple[float, bool]]:
        """Sum of log p of each answer behind the same context, and whether greedy writes it."""
        cache = start.fork()
        cache.batch_repeat_interleave(len(answers))
        fronts = [ids[:-1] for ids in answers]
        hidden = cache.advance(self.model, fronts, max(len(ids) for ids in fronts))
        for ids, hidden_TE in zip(answers, hidden, strict=True):
            rows_TE = torch.cat((last_1E, hidden_TE))[: len(ids)]
            targets_T = torch.tensor(ids, device=rows_TE.device)
            total = -float(lm_head.nll(self.module.lm_head, rows_TE, targets_T).sum())
            greedy = all(
                bool((lm_head.logits(self.module.lm_head, h).argmax(-1) == y).all())
                for h, y in zip(
                    rows_TE.split(lm_head.CHUNK), targets_T.split(lm_head.CHUNK), strict=True
                )
            )
            yield total, greedy

    @torch.no_grad()
    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> list[float]:
        """Each text whole, behind the prefix token: no windows."""
        out = []
        for request in self._bar(requests, disable_tqdm):
            (text,) = request.args
            ids = [self.prefix_token_id, *self.tok_encode(text, add_special_tokens=False)]
            cache, total = SegmentedCache(), 0.0
            for at in range(0, len(ids) - 1, lm_head.CHUNK):
                some = ids[at : min(at + lm_head.CHUNK, len(ids) - 1)]
                hidden_TE = cache.advance(self.model, [some], len(some))[0]
                targets_T = torch.tensor(ids[at + 1 : at + 1 + len(some)], device=hidden_TE.device)
                total -= float(lm_head.nll(self.module.lm_head, hidden_TE, targets_T).sum())
            out.append(total)
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return out

    @torch.no_grad()
    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """transformers' generate() in segments; options of a task that it knows are honoured."""
        alike: dict[str, list[int]] = defaultdict(list)
        for n, request in enumerate(requests):
            alike[repr(sorted(request.args[1].items()))].append(n)
        encoded = [self.tok_encode(request.args[0]) for request in requests]
        batches = []
        for members in alike.values():
            members.sort(key=lambda n: -len(encoded[n]))
            step = self.batch_size
            batches += [members[at : at + step] for at in range(0, len(members), step)]
        out: dict[int, str] = {}
        for members in self._bar(batches, disable_tqdm):
            options = requests[members[0]].args[1]
            texts = self._write([encoded[n] for n in members], options)
            for n, text in zip(members, texts, strict=True):
                out[n] = text
                self.cache_hook.add_partial("generate_until", requests[n].args, text)
        return [out[n] for n in range(len(requests))]

    def _write(self, prompts: Sequence[list[int]], given: dict[str, Any]) -> list[str]:
        options: dict[str, Any] = dict(normalize_gen_kwargs(given, self.max_gen_toks))
        until = handle_stop_sequences(options.pop("until"), eos=None)
        if not options["do_sample"]:
            options.pop("temperature", None)
        longest = max(len(ids) for ids in prompts)
        device = self.model.device
        pad = self.eot_token_id
        ids_BL = torch.tensor(
            [[pad] * (longest - len(ids)) + ids for ids in prompts], device=device
        )
        mask_BL = torch.tensor(
            [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts], device=device
        )
        stop = stop_sequences_criteria(self.tokenizer, until, longest, len(prompts))
        out_BL = self.module.generate(
            ids_BL,
            attention_mask=mask_BL,
            max_new_tokens=options.pop("max_gen_toks"),
            stopping_criteria=stop,
            pad_token_id=pad,
            **options,
        )
        return [self._text(row[longest:], until) for row in out_BL.tolist()]

    def _text(self, ids: list[int], until: list[str]) -> str:
        ends = [n for n, token in enumerate(ids) if token in self._ends]
        text = self.tokenizer.decode(ids[: ends[0]] if ends else ids, skip_special_tokens=True)
        return str(postprocess_generated_text(text, stop=until, think_end_token=None))

    def _bar(self, items: Any, disable: bool) -> Any:
        from tqdm import tqdm

        return tqdm(items, disable=disable, desc="lockstep", total=len(items))


def _option(expected: str, got: str) -> LockstepError:
    return LockstepError(
        "LS_LM_EVAL_OPTION",
        f"expected {expected}, got {got}",
        "Give pretrained=DIR, and of dtype, device, batch_size, max_gen_toks what you need.",
        "model_args",
    )


def main() -> None:
    """lm_eval's own command; an error of ours is a sentence, not a stack trace."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except LockstepError as error:
        sys.exit(_line(error))


if __name__ == "__main__":
    main()
