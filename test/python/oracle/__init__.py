"""The independent reference: SEMANTICS.md written out in slow, literal float64 Python.

Nothing here imports ``lockstep``; the product is compared with it, so it must not share its code.
"""
