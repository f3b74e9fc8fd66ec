"""Retrieval at a boundary: which pool rows the next segment sees, and how close a decision was."""

from .blocks import at_distance, listed, masses, padded
from .gap import deciding_gap
from .scores import best, exact_scores, group_mean
from .select import expand, query_vectors, recent, select

__all__ = [
    "at_distance",
    "best",
    "deciding_gap",
    "exact_scores",
    "expand",
    "group_mean",
    "listed",
    "masses",
    "padded",
    "query_vectors",
    "recent",
    "select",
]
