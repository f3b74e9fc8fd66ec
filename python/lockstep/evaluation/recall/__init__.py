"""Finding what was read: needles in a text, asked for at its end.

`templates` has the wordings, apart for profile, training and evaluation; `documents` makes texts of
them; `ask` runs a model over one; `__main__` is the job behind ``lockstep recall``, `summary` what
it reports.
"""
