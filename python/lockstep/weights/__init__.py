"""The one strict reader of weights: which files, what they hold, whose they are."""
