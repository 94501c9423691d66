"""The drawing of the silhouette over k."""

from __future__ import annotations

from imgindex.gallery.chart import chart
from imgindex.results import KScore


def test_the_highest_silhouette_is_on_top_and_the_chosen_k_is_marked() -> None:
    scores = [KScore(k, 0.5, silhouette, 0.9) for k, silhouette in ((2, 0.1), (3, 0.4), (4, 0.2))]
    drawn = chart(scores, 3)
    assert [point.chosen for point in drawn.points] == [False, True, False]
    assert drawn.points[1].y < drawn.points[2].y < drawn.points[0].y
    assert drawn.points[0].x < drawn.points[1].x < drawn.points[2].x
    assert len(chart(scores[:1], 2).points) == 1
