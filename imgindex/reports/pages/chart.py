"""A curve over k as points of a small drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imgindex.answers.clusterings import KScore

WIDTH, HEIGHT, MARGIN = 640, 160, 26
TICKS = 10


@dataclass(frozen=True, slots=True)
class Dot:
    """One k in the drawing, from its upper left corner, and its scores."""

    x: float
    y: float
    score: KScore
    chosen: bool
    ticked: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of the silhouette over k: `line` is the points of an SVG polyline."""

    dots: list[Dot]
    line: str
    width: int = WIDTH
    height: int = HEIGHT
    margin: int = MARGIN


def chart(scores: Sequence[KScore], chosen: int) -> Chart:
    """Draw the silhouette of each k that was tried."""
    first, last = scores[0].k, scores[-1].k
    low, high = min(score.silhouette for score in scores), max(score.silhouette for score in scores)
    step = max(1, -(-len(scores) // TICKS))
    dots = []
    for number, score in enumerate(scores):
        across = (score.k - first) / (last - first) if last > first else 0.5
        up = (score.silhouette - low) / (high - low) if high > low else 0.5
        x = MARGIN + across * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)
        ticked = score.k == chosen or (number % step == 0 and abs(score.k - chosen) * 2 >= step)
        dots.append(Dot(round(x, 1), round(y, 1), score, score.k == chosen, ticked))
    return Chart(dots, " ".join(f"{dot.x},{dot.y}" for dot in dots))
