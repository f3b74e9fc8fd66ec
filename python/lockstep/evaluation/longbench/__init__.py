"""LongBench in English and code (Bai et al. 2024, arXiv 2308.14508) on a copy that the user has.

Neither texts nor prompts are shipped. The recipe (cutting a long prompt in its middle, which tasks
go without a chat template, which measure judges which task) is that of THUDM/LongBench: pred.py,
eval.py, metrics.py.
"""
