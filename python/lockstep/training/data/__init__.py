"""What a training is fed: files -> documents -> sequences with their boundaries."""

from .cache import Reading
from .corpus import Corpus, load, scored, shared
from .files import find
from .recall_rows import RecallRows, write_rows
from .sequences import Cursor, Drawn, Sequences, slots
from .store import Document, Documents

__all__ = [
    "Corpus",
    "Cursor",
    "Document",
    "Documents",
    "Drawn",
    "Reading",
    "RecallRows",
    "Sequences",
    "find",
    "load",
    "scored",
    "shared",
    "slots",
    "write_rows",
]
