"""The segmented operator: attention, heads, rotary positions, state, model."""
