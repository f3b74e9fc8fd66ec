"""The texts of a training job: the corpus to train on and the documents to score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tokenizers import Tokenizer

from lockstep.errors import LockstepError
from lockstep.tokenizer_file import load_tokenizer
from lockstep.training import data
from lockstep.training.data import Corpus, Document
from lockstep.training.settings import Job


def open_texts(
    job: Job, vocabulary: int, emit: Callable[..., None], cancelled: Callable[[], bool]
) -> tuple[Corpus, list[Document]]:
    """The corpus of ``job`` and its held-out documents, tokenized now or found in the cache.

    Emits `data` events while files are read, and a `warning` where a held-out text is trained on.
    Raises LS_TRAIN_TOKENIZER and what `data.load` raises.
    """
    s, options = job.training, job.training.texts
    tokenizer = _tokenizer(job.model)
    cache = job.root / (options.cache or Path(".lockstep") / "cache")
    reading = data.Reading(cache, options.field, options.skipBroken, emit, cancelled)
    fraction = s.heldOut if isinstance(s.heldOut, float) else 0.0
    limit = options.heldOutDocuments
    corpus = data.load(
        s.data, job.root, tokenizer, vocabulary, reading, fraction=fraction, limit=limit
    )
    if not isinstance(s.heldOut, tuple):
        return corpus, corpus.held_out
    held_out = data.load(s.heldOut, job.root, tokenizer, vocabulary, reading)
    if both := data.shared(corpus, held_out):
        emit(
            "warning",
            step=0,
            code="LS_TRAIN_SHARED",
            message=f"{both} of {len(corpus.documents)} training documents are held-out documents "
            "too: the loss on held-out text will say too little. Take them out with a pattern "
            "'!file'",
        )
    return corpus, data.scored(held_out, limit)


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        return load_tokenizer(folder)
    except LockstepError as error:
        if error.code != "LS_TOKENIZER_MISSING":
            raise
        raise LockstepError("LS_TRAIN_TOKENIZER", error.message, error.mend) from error
