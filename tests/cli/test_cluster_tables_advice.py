"""What the remarks on a clustering say about the choice of k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from imgindex.cli.cluster_tables import advice, summary
from imgindex.export import documents
from imgindex.results import Clustering, KScore


def clustering(k: int, ks: Sequence[int], *, objectives: Sequence[float] = (), copies: float = 0.0) -> Clustering:
    """A clustering of 50 images into k clusters, which were chosen from ks; the objective falls evenly."""
    falling = objectives or [1 - number / 100 for number in ks]
    curve = tuple(KScore(number, value, float(number == k), 1.0) for number, value in zip(ks, falling, strict=True))
    return Clustering(
        k=k, seed=42, ids=np.arange(50), paths=["a.jpg"] * 50, labels=np.zeros(50, np.int64),
        centroids=np.zeros((k, 2), np.float32), sizes=(50,), objective=1.0, iterations=1, restarts=1, trained_on=50,
        seconds=0.25, curve=curve, copies=copies,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("k", "ks", "line"),
    [
        (9, range(4, 10), "9 is the greatest number that was tried, and more clusters may fit better: try -k 9..18"),
        (40, range(2, 41), "40 is the greatest number that was tried, and more clusters may fit better: try -k 40..49"),
        (49, range(4, 50), "49 is the greatest number that was tried: there are only 50 images"),
        (4, range(4, 10), "4 is the smallest number that was tried, and fewer clusters may fit better: try -k 2..4"),
        (2, range(2, 10), "2 is the smallest number that can be chosen: the images may not form clusters"),
    ],
)
def test_a_best_k_at_the_edge_of_its_range_is_reported(k: int, ks: range, line: str) -> None:
    assert advice(clustering(k, ks)) == [line]


def test_a_k_inside_the_range_needs_no_advice() -> None:
    assert advice(clustering(5, range(2, 10))) == []


def test_a_given_k_needs_no_advice() -> None:
    found = clustering(5, (), copies=0.9)
    assert advice(found) == []
    assert summary(found) == "50 images in 5 clusters, 0.2 s"
    assert "knee" not in documents.clustering(found)


def test_the_knee_is_named() -> None:
    objectives = [0.9, 0.3, 0.25, 0.2, 0.15]
    assert advice(clustering(3, range(2, 7), objectives=objectives)) == [
        "the curve of the objective has its knee at 3 clusters, too"
    ]
    found = clustering(4, range(2, 7), objectives=objectives)
    assert advice(found) == ["the curve of the objective has its knee at 3 clusters"]
    assert documents.clustering(found)["knee"] == 3


def test_many_copies_are_reported() -> None:
    assert advice(clustering(5, range(2, 10), copies=0.04)) == []
    assert advice(clustering(5, range(2, 10), copies=0.375)) == [
        "38% of the images are copies of another one, or nearly, which raises the silhouette: `imgindex duplicates` "
        "lists copies"
    ]
