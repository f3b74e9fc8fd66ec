"""Which KV heads should be long, and in which layers: measured, learned, or by rule.

`choose` turns scores into a choice, `mass` and `gates` measure scores, `windows` gives them text,
`partial` keeps what a measurement has so far, `__main__` is the job behind `lockstep profile`.
"""
