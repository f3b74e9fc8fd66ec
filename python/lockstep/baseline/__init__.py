"""Full attention with the same weights, to compare with."""
