"""The texts of a training job: the corpus to train on and the documents to score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lockstep.chat.encode import Rule
from lockstep.chat.source import read_template, special_texts
from lockstep.errors import LockstepError
from lockstep.tokenizer.ends import read_tokenizer_settings
from lockstep.tokenizer.file import load_tokenizer
from lockstep.training import data
from lockstep.training.data import Corpus, Document
from lockstep.training.data.prefetch import with_bos
from lockstep.training.settings import Job, TextOptions

WORKERS = 2  # processes that render conversations
LOSSES = {
    "assistant": "what the assistant says",
    "last": "the last answer",
    "all": "every token",
}


@dataclass(frozen=True)
class Texts:
    """corpus: what is trained on. scored: held-out texts, ids with BOS and which of them count.
    rows: held-out rows of two answers, in the place of ``scored``. told: how it was read, for the
    log: formats (files by format), loss, end (a token's text), tokens and targets of
    conversations."""

    corpus: Corpus
    scored: list[tuple[list[int], list[bool] | None]]
    told: dict[str, Any]
    rows: list[Document] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The same in words, for the model card."""
        told = self.told
        end = f"Documents end with `{told['end']}`." if told["end"] else "No end token is added."
        if "preference" in told["formats"]:
            return f"Each row has two answers to one prompt, which alone count. {end}"
        if told["loss"] is None:
            return end
        share = told["targets"] / max(1, told["tokens"])
        return f"Of conversations {LOSSES[told['loss']]} counts ({share:.0%} of the tokens). {end}"


def open_texts(
    job: Job, tokens: Mapping[str, Any], emit: Callable[..., None], cancelled: Callable[[], bool]
) -> Texts:
    """The corpus of ``job`` and its held-out documents, tokenized now or found in the cache.

    tokens: `tokenizer` of the contract. Emits `data` events while files are read, and a `warning`
    where a held-out text is trained on. Raises LS_TRAIN_TOKENIZER, LS_TRAIN_END and what
    `data.load` raises.
    """
    s, options = job.training, job.training.texts
    tokenizer = _tokenizer(job.model)
    end = _end(job.model, tokenizer, options)
    found = None if end is None else tokenizer.token_to_id(end)
    bos = tokens["bos"]
    rule = Rule(
        read_template(job.model),
        options.loss,
        frozenset([*tokens["ends"], *([] if found is None else [found])]),
        found,
        s.sequence - (bos is not None),
        options.long == "refuse",
    )
    cache = job.root / (options.cache or Path(".lockstep") / "cache")
    reading = data.ReadOptions(
        cache,
        options.field,
        options.skipBroken,
        emit,
        cancelled,
        "preference" if s.dpo is not None and options.format == "auto" else options.format,
        rule,
        min(WORKERS, max(1, options.workers)),
        s.dpo is not None,
    )
    fraction = s.heldOut if isinstance(s.heldOut, float) else 0.0
    limit = options.heldOutDocuments
    size = tokens["size"]
    corpus = data.load(s.data, job.root, tokenizer, size, reading, fraction=fraction, limit=limit)
    if options.recall is not None:
        rows = _recall_rows(job, corpus, tokenizer, rule, reading)
        corpus = data.load(
            s.data, job.root, tokenizer, size, reading, fraction=fraction, limit=limit, own=rows
        )
    held_out = corpus.held_out
    if isinstance(s.heldOut, tuple):
        others = data.load(s.heldOut, job.root, tokenizer, size, reading)
        if both := data.shared(corpus, others):
            emit(
                "warning",
                step=0,
                code="LS_TRAIN_SHARED",
                message=f"{both} of {len(corpus.documents)} training documents are held-out "
                "documents too, so the held-out loss will be too low. Exclude them with a "
                "pattern '!file'",
            )
        held_out = data.scored(others, limit)
    if s.dpo is not None:
        return Texts(corpus, [], _told(corpus, rule, end), held_out)
    scored = [_scored(document, bos, s.heldOutTokens) for document in held_out]
    return Texts(corpus, scored, _told(corpus, rule, end))


def _recall_rows(
    job: Job, corpus: Corpus, tokenizer: Tokenizer, rule: Rule, reading: data.ReadOptions
) -> Path:
    """The file of rows that `data.recall` asks for, made of the corpus' own texts."""
    s, asked = job.training, job.training.texts.recall
    assert asked is not None
    lengths = asked.lengths or (s.sequence,)
    if (longest := max(lengths)) > s.sequence:
        raise LockstepError(
            "LS_TRAIN_RECALL",
            f"expected data.recall.lengths of at most training.sequence ({s.sequence}), got "
            f"{longest}",
            "Lower the length, or raise training.sequence.",
            "data.recall",
        )
    options = replace(asked, lengths=lengths)
    chat = rule.template is not None
    return data.write_rows(options, corpus, tokenizer, reading, chat=chat, seed=s.seed)


def _scored(document: Document, bos: int | None, most: int) -> tuple[list[int], list[bool] | None]:
    ids = document.ids_N[:most].tolist()
    whole = with_bos(ids, bos)
    if document.mask_N is None:
        return whole, None
    mask = document.mask_N[:most].astype(bool).tolist()
    return whole, [False] * (len(whole) - len(ids)) + mask


def _told(corpus: Corpus, rule: Rule, end: str | None) -> dict[str, Any]:
    formats = Counter(entry.format for entry in corpus.entries)
    chats = [entry.counts for entry in corpus.entries if entry.format != "text"]
    return {
        "formats": dict(formats),
        "loss": rule.loss if chats and "preference" not in formats else None,
        "end": end,
        "tokens": sum(counts.tokens for counts in chats),
        "targets": sum(counts.targets for counts in chats),
    }


def _end(folder: Path, tokenizer: Tokenizer, options: TextOptions) -> str | None:
    """Text of the token that ends documents."""
    if options.end is False:
        return None
    own = special_texts(read_tokenizer_settings(folder)).get("eos_token")
    if options.end is None:
        return own if own is not None and tokenizer.token_to_id(own) is not None else None
    end = str(options.end)
    if tokenizer.token_to_id(end) is None:
        raise LockstepError(
            "LS_TRAIN_END",
            f"expected data.end to be a token of the model, got {end!r}",
            f"Name one token, such as {own!r}, or set data.end to false for none."
            if own
            else "Name one token, or set data.end to false for none.",
            "data.end",
        )
    return end


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except LockstepError as error:
        if error.code != "LS_TOKENIZER_MISSING":
            raise
        raise LockstepError(
            "LS_TRAIN_TOKENIZER",
            error.message,
            error.fix or "Copy tokenizer.json again from the original checkpoint.",
        ) from error
