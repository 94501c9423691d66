"""A small plot of a curve over k, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from imgindex.answers.clusterings import KScore

WIDTH = 40
EIGHTHS = " ▏▎▍▌▋▊▉█"


def plot(scores: Sequence[KScore], chosen: int) -> list[str]:
    """Return the lines of a plot: a bar for each k as long as its silhouette, the chosen one marked."""
    most = max(score.silhouette for score in scores)
    lines = [f"{'k':>4}  {'silhouette':<{WIDTH + 8}}  starts agree  objective"]
    for score in scores:
        bar = _bar(score.silhouette / most if most > 0 else 0.0)
        numbers = f"{score.silhouette:6.3f}  {score.stability:12.2f}  {score.objective:9.3f}"
        lines.append(f"{'→' if score.k == chosen else ' '}{score.k:>3}  {bar:<{WIDTH}}  {numbers}")
    return lines


def _bar(share: float) -> str:
    eighths = round(max(0.0, share) * WIDTH * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
