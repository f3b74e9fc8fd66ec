"""Evaluation: perplexity with intervals, RULER's tasks by a generator of our own, LongBench."""
