"""A checkpoint's tokenizer: its file, checked, and the one way from text to ids."""
