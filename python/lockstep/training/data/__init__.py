"""What a training is fed: files -> documents -> sequences with their boundaries."""

from .corpus import Corpus, Document, load
from .files import find
from .sequences import Cursor, Drawn, Sequences

__all__ = ["Corpus", "Cursor", "Document", "Drawn", "Sequences", "find", "load"]
