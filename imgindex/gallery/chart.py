"""The silhouette over k, as points of an SVG drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from imgindex.results import KScore

WIDTH, HEIGHT, MARGIN = 640, 160, 26
TICKS = 10


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One k: its place in pixels from the upper left corner, its scores, and whether its axis label is drawn."""

    x: float
    y: float
    score: KScore
    chosen: bool
    ticked: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of the silhouette over k; line: the points of an SVG polyline."""

    points: list[CurvePoint]
    line: str
    width: int = WIDTH
    height: int = HEIGHT
    margin: int = MARGIN


def chart(scores: Sequence[KScore], chosen: int) -> Chart:
    """Return the drawing of the silhouettes of all k that were tried."""
    first, last = scores[0].k, scores[-1].k
    low, high = min(score.silhouette for score in scores), max(score.silhouette for score in scores)
    step = max(1, -(-len(scores) // TICKS))
    points = []
    for number, score in enumerate(scores):
        across = (score.k - first) / (last - first) if last > first else 0.5
        up = (score.silhouette - low) / (high - low) if high > low else 0.5
        x = MARGIN + across * (WIDTH - 2 * MARGIN)
        y = HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)
        ticked = score.k == chosen or (number % step == 0 and abs(score.k - chosen) * 2 >= step)
        points.append(CurvePoint(round(x, 1), round(y, 1), score, score.k == chosen, ticked))
    return Chart(points, " ".join(f"{point.x},{point.y}" for point in points))
