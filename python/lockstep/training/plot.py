"""The loss curve as a PNG (the SVG is drawn by src/cli/drawing/loss-svg.ts)."""

from __future__ import annotations

import os
from pathlib import Path

# The token --segment of src/server/page/tokens.css, light; test/look.test.ts holds the two equal.
COLOR = "#0f8a7e"


def smooth(values: list[float], width: int) -> list[float]:
    """Mean of the last ``width`` values at each place (fewer at the start)."""
    out, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        out.append(total / min(i + 1, width))
    return out


def write_png(path: Path, curve: list[list[float]], title: str) -> None:
    """Draw ``curve`` (rows of `Progress.curve`) to ``path``; replaces the file in one step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = [row[0] for row in curve]
    losses = [row[3] for row in curve]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=144, layout="constrained")
    axes.plot(steps, losses, color=COLOR, alpha=0.45, linewidth=1, label="each step")
    width = max(1, len(losses) // 20)
    if width > 1:
        axes.plot(
            steps,
            smooth(losses, width),
            color=COLOR,
            linewidth=2,
            label=f"mean of {width} steps",
        )
        axes.legend(frameon=False)
    axes.set_title(title)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per token)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    figure.savefig(partial, format="png")
    pyplot.close(figure)
    os.replace(partial, path)
