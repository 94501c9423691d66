"""A small plot of the silhouette over k, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from imgindex.results import KScore

WIDEST = 40
EIGHTHS = " ▏▎▍▌▋▊▉█"
# Columns of the plot beside the bars: k and the silhouette, and those that a narrow terminal does not show.
LEFT, SILHOUETTE, REST = 6, 8, 27


def plot(scores: Sequence[KScore], chosen: int, *, columns: int | None = None) -> list[str]:
    """Return the lines of a plot: a bar for each k as long as its silhouette, with an arrow at the chosen one.

    columns: those of the terminal, None for as many as the plot needs.
    """
    is_wide = columns is None or columns >= LEFT + WIDEST + SILHOUETTE + REST
    width = WIDEST if is_wide or columns is None else max(1, min(WIDEST, columns - LEFT - SILHOUETTE))
    highest = max(score.silhouette for score in scores)
    lines = [f"{'k':>4}  {'silhouette':<{width + SILHOUETTE}}" + ("  starts agree  objective" if is_wide else "")]
    for score in scores:
        arrow = "→" if score.k == chosen else " "
        bar = _bar(score.silhouette / highest if highest > 0 else 0.0, width)
        rest = f"  {score.stability:12.2f}  {score.objective:9.3f}" if is_wide else ""
        lines.append(f"{arrow}{score.k:>3}  {bar:<{width}}  {score.silhouette:6.3f}{rest}")
    return [line.rstrip() for line in lines]


def _bar(share: float, width: int) -> str:
    eighths = round(max(0.0, share) * width * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
