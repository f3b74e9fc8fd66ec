"""Training in segments: data, the loop, checkpoints (docs/training.md)."""
