"""Needles: facts hidden in texts, in token ids. What `profile`, `recall` and training ask for."""
