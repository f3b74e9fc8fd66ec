"""Recall documents for training: rows that ask for needles hidden in the training's own texts.

A row is a text with a needle at each of several depths, and then one question after the other, each
with its answer. Needles and wordings are those of the split `train` (`lockstep.needles.templates`),
which neither `lockstep profile` nor `lockstep recall` uses. Where the checkpoint has a chat
template, rows are conversations, so answers alone count by default; otherwise they are plain text.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from lockstep.errors import LockstepError
from lockstep.needles.documents import DocumentMaker, Needle

from .cache import ReadOptions, Ticker
from .corpus import Corpus
from .fingerprint import replacing

VERSION = 1  # of what is written: another one is another file
MARGIN = 24  # tokens that a chat template may take for a question and its answer
DEPTH = 0.05, 0.95  # needles stand between these shares of the text


@dataclass(frozen=True)
class RecallRows:
    """share: of all training tokens. lengths: of a row, in tokens, taken in turn; empty for the
    length of a training sequence. facts: how many needles a row has (the name
    that checkpoints have), each of them asked for."""

    share: float
    lengths: tuple[int, ...]
    facts: int


def write_rows(
    options: RecallRows,
    corpus: Corpus,
    tokenizer: Tokenizer,
    reading: ReadOptions,
    *,
    chat: bool,
    seed: int,
) -> Path:
    """The file of rows, written into the cache unless it lies there: a function of its arguments.

    Rows are JSON lines, ``messages`` or ``text``. Emits `data` events. Raises
    ``LS_TRAIN_RECALL`` where no document is as long as a row, and ``Cancelled``.
    """
    identity = [VERSION, asdict(options), corpus.documents.digest, tokenizer.to_str(), chat, seed]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
    path = reading.cache / "recall" / f"{digest}.jsonl"
    if path.exists():
        return path
    wanted = round(options.share / (1 - options.share) * corpus.tokens)
    texts = _Texts(corpus, random.Random(f"{seed}/texts"))
    path.parent.mkdir(parents=True, exist_ok=True)
    tick = Ticker(reading, path, "writing", wanted)
    written = count = 0
    with replacing(path) as file:
        while written < wanted or not count:
            tick(written)
            length = options.lengths[count % len(options.lengths)]
            row = _row(options, texts, tokenizer, length, f"{seed}/{count}", chat)
            file.write(json.dumps(row).encode() + b"\n")
            written, count = written + length, count + 1
    return path


class _Texts:
    """Stretches of the corpus, drawn by a seed; a document is drawn by its length."""

    def __init__(self, corpus: Corpus, rng: random.Random):
        self._documents, self._rng = corpus.documents, rng
        self._ends = np.cumsum(corpus.documents.lengths(0, len(corpus.documents)))

    def draw(self, tokens: int) -> list[int]:
        """Ids of a stretch that holds ``tokens`` of one document."""
        for _ in range(1000):
            at = self._rng.randrange(int(self._ends[-1]))
            document = int(np.searchsorted(self._ends, at, side="right"))
            file, first, size = map(int, self._documents.index_N3[document])
            if size >= tokens:
                start = first + self._rng.randrange(size - tokens + 1)
                ids: list[int] = self._documents.tokens.read(file, start, start + tokens).tolist()
                return ids
        longest = int(np.max(np.diff(self._ends, prepend=0)))
        raise LockstepError(
            "LS_TRAIN_RECALL",
            f"expected training documents of at least {tokens} tokens to hide needles in, got "
            f"{longest} in the longest",
            f"Set data.recall.lengths to at most {longest}, or give longer texts.",
            "data.recall",
        )


def _row(
    options: RecallRows, texts: _Texts, tokenizer: Tokenizer, length: int, seed: str, chat: bool
) -> dict[str, object]:
    rng = random.Random(seed)
    maker = DocumentMaker(tokenizer, texts.draw(length), "train")
    depths = sorted(rng.uniform(*DEPTH) for _ in range(options.facts))
    # The same seed gives the same needles; a document has room for the longest of its questions.
    tails = [len(needle.tail) for needle in maker.make(seed, length, depths).needles]
    room = length - MARGIN * (options.facts + 1) - sum(tails) + max(tails)
    document = maker.make(seed, room, depths)
    asked = rng.sample(document.needles, len(document.needles))
    said = [_turn(tokenizer, needle) for needle in asked]
    text = tokenizer.decode(document.ids)
    if not chat:
        return {"text": text + "".join(f"\n\n{question} {answer}" for question, answer in said)}
    messages = []
    for n, (question, answer) in enumerate(said):
        content = f"{text}\n\n{question}" if n == 0 else question
        messages += [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def _turn(tokenizer: Tokenizer, needle: Needle) -> tuple[str, str]:
    """Question and answer of a needle, without the white space around them."""
    question = tokenizer.decode(needle.tail[: needle.opening]).strip()
    answer = tokenizer.decode(needle.tail[needle.opening : needle.answer.stop]).strip()
    return question, _closed(answer)


def _closed(answer: str) -> str:
    """A value in quotation marks or backticks with the closing one."""
    for mark in ('"', "`"):
        if answer.count(mark) % 2:
            return answer + mark
    return answer
