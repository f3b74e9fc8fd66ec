"""Conversations as token ids, and which of them count: the very ids that serving gives.

A conversation's ids are those of its whole text, as the server tokenizes a prompt. An answer counts
from the end of its header to the token that ends it; what a template writes behind that token
nobody generates, so it does not count, and behind the last answer it is left out. A token that
holds the end of a header and the beginning of an answer cannot follow the prompt that is served: it
does not count either. A header that a tokenizer writes otherwise once an answer follows it (GPT-2's
rule for two line ends) is written as in the prompt. A conversation without a token that ends its
last answer gets the end token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from tokenizers import Encoding, Tokenizer

from lockstep.tokenizer.encoding import encodings, token_ids, token_ids_of_all

from .environment import Span
from .messages import Conversation
from .renderer import Refused, Renderer, Rendering
from .source import TemplateSource
from .spans import marked

NEAR = 512  # characters before an answer that are looked at first
SAME = 4  # tokens before it that show that its header is the prompt's

Loss = Literal["assistant", "last", "all"]


@dataclass(frozen=True)
class Pair:
    """A prompt and its completion, plain text without a template."""

    prompt: str
    completion: str


Example = Conversation | Pair


@dataclass(frozen=True)
class Rule:
    """How conversations become ids.

    template: the checkpoint's, None where it has none. loss: which targets count. ends: ids that
    end an answer. end: the id that is added where none does, or None. most: tokens that an example
    may have. refuse: whether a longer one is an error; it is cut behind an answer otherwise.
    options: further variables of the template.
    """

    template: TemplateSource | None
    loss: Loss = "assistant"
    ends: frozenset[int] = frozenset()
    end: int | None = None
    most: int = 1 << 31
    refuse: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def identity(self) -> list[Any]:
        """What of it changes the ids or what counts."""
        template = self.template
        shown: list[Any] | None = None
        if template is not None:
            # A template for tools comes third, so that what is cached without one keeps its name.
            more = [] if template.tools is None else [template.tools.text]
            shown = [template.text, dict(template.special), *more]
        bounds = [self.loss, sorted(self.ends), self.end, self.most, self.refuse]
        return [shown, *bounds, dict(self.options)]


@dataclass(frozen=True)
class Encoded:
    """ids_T: without BOS. mask_T: which count as targets. cut: whether later turns were left out.
    joined: answers whose first token holds a part of their header. headed: headers that are written
    as in the prompt, otherwise than within the whole text."""

    ids_T: np.ndarray
    mask_T: np.ndarray
    cut: bool = False
    joined: int = 0
    headed: int = 0


@dataclass(frozen=True)
class Skipped:
    """An example that has nothing to train on: ``untargeted``, or ``long``."""

    why: Literal["untargeted", "long"]


@dataclass(frozen=True)
class Wrong:
    """An example that cannot be used, and why."""

    reason: str


Result = Encoded | Skipped | Wrong


class Encoder:
    """Encodes examples under one rule. Use it as a context manager.

    Raises LS_TEMPLATE_LIMIT.
    """

    def __init__(self, tokenizer: Tokenizer, rule: Rule, workers: int = 1):
        self.tokenizer, self.rule = tokenizer, rule
        usual = rule.template
        tools = None if usual is None else usual.tools
        self._usual = None if usual is None else Renderer(usual, workers=workers)
        self._for_tools = self._usual if tools is None else Renderer(tools, workers=workers)
        # As the server judges it (src/server/prompt/chat.ts).
        shown = tools or usual
        self._shows_tools = shown is not None and bool(re.search(r"\btools\b", shown.text))
        self._developers = usual is not None and bool(re.search(r"\bdeveloper\b", usual.text))

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        for renderer in (self._usual, self._for_tools):
            if renderer is not None:
                renderer.close()

    def encode(self, examples: Sequence[Example]) -> list[Result]:
        """The ids of each example, or why there are none."""
        chats = [one for one in examples if isinstance(one, Conversation)]
        found = iter(self._chats(chats))
        return [
            next(found) if isinstance(one, Conversation) else self._pair(one) for one in examples
        ]

    # Conversations

    def _chats(self, chats: Sequence[Conversation], cut: bool = False) -> list[Result]:
        if not chats:
            return []
        if self._usual is None or self._for_tools is None:
            reason = "conversations need a chat template, and the checkpoint has none"
            return [Wrong(reason) for _ in chats]
        if self.rule.loss != "all":
            chats = [_until_answer(one) for one in chats]
        if not self._developers:
            chats = [_without_developers(one) for one in chats]
        wanted = [self._wanted(one) for one in chats]
        results: list[Result | None] = [
            Skipped("untargeted") if turns == [] else None for turns in wanted
        ]
        if not self._shows_tools:
            reason = "tools are given, and the chat template shows none"
            results = [
                Wrong(reason) if chat.tools else result
                for chat, result in zip(chats, results, strict=True)
            ]
        left = [at for at, result in enumerate(results) if result is None]
        rendered: dict[int, Rendering | Refused] = {}
        for renderer, with_tools in ((self._usual, False), (self._for_tools, True)):
            here = [at for at in left if bool(chats[at].tools) == with_tools]
            found = renderer.render_many(
                [chats[at] for at in here], [wanted[at] for at in here], self.rule.options
            )
            rendered |= zip(here, found, strict=True)
        texts = []
        for at in left:
            one = rendered[at]
            spans = self._spans(one, chats[at], wanted[at])
            if isinstance(spans, Wrong):
                results[at] = spans
            else:
                assert isinstance(one, Rendering)
                texts.append((at, one.text, spans))
        encoded = encodings(self.tokenizer, [text for _, text, _ in texts], offsets=True)
        for (at, text, spans), encoding in zip(texts, encoded, strict=True):
            result = self._finished(encoding, spans, text)
            if isinstance(result, Encoded) and len(result.ids_T) > self.rule.most:
                result = self._shorter(chats[at], len(result.ids_T), cut)
            results[at] = result
        return [result for result in results if result is not None]

    def _wanted(self, chat: Conversation) -> list[int] | None:
        """Which messages are to be found; None for the text alone."""
        if self.rule.loss == "all":
            return None
        turns = [turn for turn in chat.turns if turn not in chat.untrained]
        return turns[-1:] if self.rule.loss == "last" else turns

    def _spans(
        self, one: Rendering | Refused, chat: Conversation, wanted: list[int] | None
    ) -> list[Span] | Wrong | None:
        """Characters that count; None: all."""
        if isinstance(one, Refused):
            return Wrong(f"the chat template refuses it: {one}")
        if wanted is None:
            return None
        if one.unsound is not None:
            return Wrong(
                f"what the assistant said cannot be told from the rest: {one.unsound}; "
                + (
                    "data.loss 'all' counts every token"
                    if self.rule.loss == "last"
                    else "data.loss 'last' needs the last answer alone, 'all' none"
                )
            )
        renderer = self._for_tools if chat.tools else self._usual
        assert renderer is not None
        if not marked(renderer.source.text) or wanted == chat.turns:
            return one.spans
        # A template marks all that an assistant wrote; some of it does not count.
        if len(one.spans) != len(chat.turns):
            return Wrong(
                f"the chat template marks {len(one.spans)} stretches as generated for "
                f"{len(chat.turns)} messages of the assistant, so one cannot be chosen"
            )
        return [span for turn, span in zip(chat.turns, one.spans, strict=True) if turn in wanted]

    def _finished(self, encoding: Encoding, spans: list[Span] | None, text: str) -> Result:
        rule = self.rule
        ids_T = np.array(encoding.ids, dtype=np.int64)
        ends_T = np.isin(ids_T, list(rule.ends))
        if spans is None:
            mask_T = np.ones(len(ids_T), dtype=bool)
            (at,) = np.nonzero(ends_T)
            # Text after the last end is layout.
            offsets = encoding.offsets
            if rule.end is not None and len(at) and not text[offsets[at[-1]][1] :].strip():
                ids_T, mask_T = ids_T[: at[-1] + 1], mask_T[: at[-1] + 1]
                return Encoded(ids_T, mask_T)
            return self._ended(ids_T, mask_T)
        places = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        first_T, last_T = places[:, 0], places[:, 1]
        mask_T = np.zeros(len(ids_T), dtype=bool)
        joined, closed = 0, None
        for start, end in spans:
            joined += bool(((first_T < start) & (last_T > start)).any())
            (inside,) = np.nonzero((first_T >= start) & (first_T < end))
            (stop,) = np.nonzero(ends_T[inside])
            closed = int(inside[stop[0]]) if len(stop) else None
            mask_T[inside if closed is None else inside[: stop[0] + 1]] = True
        if not mask_T[1:].any():
            return Skipped("untargeted")
        headed = 0
        # From the last to the first, so that earlier positions stay valid.
        for begin, _ in reversed(spans):
            if not ((first_T < begin) & (last_T > begin)).any() and (
                other := self._header(text, begin, ids_T, first_T)
            ):
                where, to, header = other
                ids_T = np.concatenate((ids_T[:where], header, ids_T[to:]))
                mask_T = np.concatenate((mask_T[:where], np.zeros(len(header), bool), mask_T[to:]))
                closed = None if closed is None else closed + len(header) - to + where
                headed += 1
        if closed is not None and rule.end is not None and closed == np.nonzero(mask_T)[0][-1]:
            ids_T, mask_T = ids_T[: closed + 1], mask_T[: closed + 1]
        return replace(self._ended(ids_T, mask_T), joined=joined, headed=headed)

    def _header(
        self, text: str, start: int, ids_T: np.ndarray, first_T: np.ndarray
    ) -> tuple[int, int, np.ndarray] | None:
        """Where the ids before an answer are not those of its prompt: [from, to) of ``ids_T``, and
        what the prompt has there. None where they are."""
        count = int(first_T.searchsorted(start))
        # What follows a text moves its last tokens alone, so a look at these is enough mostly.
        near = self._ids(text[max(0, start - NEAR) : start])
        if min(len(near), count) >= SAME and np.array_equal(near[-SAME:], ids_T[:count][-SAME:]):
            return None
        prompt = self._ids(text[:start])
        shorter = min(len(prompt), count)
        (parts,) = np.nonzero(prompt[:shorter] != ids_T[:shorter])
        same = int(parts[0]) if len(parts) else shorter
        return None if same == len(prompt) == count else (same, count, prompt[same:])

    def _ids(self, text: str) -> np.ndarray:
        return np.array(token_ids(self.tokenizer, text), dtype=np.int64)

    def _ended(self, ids_T: np.ndarray, mask_T: np.ndarray) -> Encoded:
        end = self.rule.end
        if end is not None and (not len(ids_T) or ids_T[-1] not in self.rule.ends):
            ids_T, mask_T = np.append(ids_T, end), np.append(mask_T, True)
        return Encoded(ids_T, mask_T)

    def _shorter(self, chat: Conversation, length: int, cut: bool) -> Result:
        """The longest beginning that ends with an answer and fits."""
        if cut:
            return Skipped("long")
        if self.rule.refuse:
            return Wrong(f"{length} tokens, and a sequence holds {self.rule.most}")
        answers = chat.turns[:-1]
        low, high, best = 0, len(answers) - 1, None
        while low <= high:
            middle = (low + high) // 2
            part = chat.upto(answers[middle] + 1)
            (result,) = self._chats([part], cut=True)
            if isinstance(result, Encoded):
                best, low = replace(result, cut=True), middle + 1
            elif isinstance(result, Wrong):
                return result
            elif result.why == "untargeted":
                low = middle + 1
            else:
                high = middle - 1
        return best or Skipped("long")

    # Prompts and completions

    def _pair(self, pair: Pair) -> Result:
        prompt, whole, rest = token_ids_of_all(
            self.tokenizer, [pair.prompt, pair.prompt + pair.completion, pair.completion]
        )
        # The prompt's ids are those that serving gives it, even where a token would span the two.
        ids = whole if whole[: len(prompt)] == prompt else prompt + rest
        ids_T = np.array(ids, dtype=np.int64)
        mask_T = np.arange(len(ids_T)) >= (0 if self.rule.loss == "all" else len(prompt))
        found = self._ended(ids_T, mask_T)
        if not found.mask_T[1:].any():
            return Skipped("untargeted")
        if len(found.ids_T) > self.rule.most:
            if self.rule.refuse:
                return Wrong(f"{len(found.ids_T)} tokens, and a sequence holds {self.rule.most}")
            return Skipped("long")
        return found


def text_of(example: Example) -> str:
    """One text that stands for an example: what decides whether it is held out."""
    if isinstance(example, Pair):
        return json.dumps([example.prompt, example.completion], ensure_ascii=False)
    return json.dumps([example.messages, example.tools], ensure_ascii=False)


def _until_answer(chat: Conversation) -> Conversation:
    """Without what follows its last answer: nothing of it counts."""
    turns = chat.turns
    return chat if not turns or turns[-1] + 1 == len(chat.messages) else chat.upto(turns[-1] + 1)


def _without_developers(chat: Conversation) -> Conversation:
    """What OpenAI's newer models call `developer` is `system` to a template that does not know that
    role (as in src/server/prompt/chat.ts)."""
    if not any(one["role"] == "developer" for one in chat.messages):
        return chat
    messages = [
        {**one, "role": "system"} if one["role"] == "developer" else one for one in chat.messages
    ]
    return replace(chat, messages=messages)
