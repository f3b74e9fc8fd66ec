"""The segmented operator: attention, heads, rotary positions, state, model."""

from ..collector import paused

with paused():
    import torch  # noqa: F401
    import transformers.modeling_utils  # noqa: F401
