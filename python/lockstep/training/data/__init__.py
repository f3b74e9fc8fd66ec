"""What a training is fed: files -> documents -> sequences with their boundaries."""

from .cache import ReadOptions
from .corpus import Corpus, load, scored, shared
from .files import find
from .pairs import Pairs, answers, twos
from .recall_rows import RecallRows, write_rows
from .sequences import Cursor, Sequences, TrainSequence, slots
from .store import Document, Documents

__all__ = [
    "Corpus",
    "Cursor",
    "Document",
    "Documents",
    "Pairs",
    "ReadOptions",
    "RecallRows",
    "Sequences",
    "TrainSequence",
    "answers",
    "find",
    "load",
    "scored",
    "shared",
    "slots",
    "twos",
    "write_rows",
]
