"""RULER's tasks (Hsieh et al. 2024, arXiv 2404.06654), made offline by a generator of our own.

The recipe (which tasks, how many needles, hops and words, how a text is sized and where needles go,
how answers are scored) is that of NVIDIA/RULER at its 2026 state: scripts/synthetic.yaml,
scripts/data/synthetic/*.py, scripts/eval/synthetic/constants.py. Its wording is not copied and its
essays are not downloaded: scores compare with each other, not to the decimal with published ones.
"""
