"""What a training is fed: files -> documents -> sequences with their boundaries."""

from .cache import Reading
from .corpus import Corpus, load, scored, shared
from .files import find
from .pairs import Pairs, answers, twos
from .recall_rows import RecallRows, write_rows
from .sequences import Cursor, Drawn, Sequences, slots
from .store import Document, Documents

__all__ = [
    "Corpus",
    "Cursor",
    "Document",
    "Documents",
    "Drawn",
    "Pairs",
    "Reading",
    "RecallRows",
    "Sequences",
    "answers",
    "find",
    "load",
    "scored",
    "shared",
    "slots",
    "twos",
    "write_rows",
]
