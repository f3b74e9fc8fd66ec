"""Texts with facts hidden in them, in token ids: what `profile`, `recall` and training ask for."""
