"""What a training is fed: files -> documents -> sequences with their boundaries."""

from .cache import ReadOptions
from .corpus import Corpus, load, scored, shared
from .files import find
from .pairs import PairSequences, as_pairs, pair_of
from .recall_rows import RecallRows, write_rows
from .sequences import Cursor, Sequences, TrainSequence, slots
from .store import Document, Documents

__all__ = [
    "Corpus",
    "Cursor",
    "Document",
    "Documents",
    "PairSequences",
    "ReadOptions",
    "RecallRows",
    "Sequences",
    "TrainSequence",
    "as_pairs",
    "find",
    "load",
    "pair_of",
    "scored",
    "shared",
    "slots",
    "write_rows",
]
