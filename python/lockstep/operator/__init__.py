"""The segmented operator: attention, heads, rotary positions, state, model."""

from ..collector import paused
from ..deferred import deferred

with paused(), deferred():
    import torch  # noqa: F401
    import transformers.generation.utils  # with every model of transformers
    import transformers.modeling_utils  # noqa: F401
