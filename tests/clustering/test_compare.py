"""Scores of labellings by their definitions, also where there is hardly anything to agree about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgindex.clustering.compare import agreement

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60)


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def pairs_within(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) / 2).sum())


@settings(deadline=None)
@given(LABELS)
def test_scores_are_what_their_definitions_say(pairs: list[tuple[int, int]]) -> None:
    clusters, classes = (np.array(labels) for labels in zip(*pairs, strict=True))
    found = agreement(clusters, classes)
    counts = np.zeros((5, 4))
    np.add.at(counts, (clusters, classes), 1)
    of_clusters, of_classes = entropy(counts.sum(axis=1)), entropy(counts.sum(axis=0))
    mutual = of_clusters + of_classes - entropy(counts.ravel())
    homogeneity = mutual / of_classes if of_classes else 1.0
    completeness = mutual / of_clusters if of_clusters else 1.0
    assert found.homogeneity == pytest.approx(homogeneity, abs=1e-9)
    assert found.completeness == pytest.approx(completeness, abs=1e-9)
    both = homogeneity + completeness
    assert found.v_measure == pytest.approx(2 * homogeneity * completeness / both if both > 1e-9 else 0, abs=1e-9)
    assert found.nmi == pytest.approx(
        2 * mutual / (of_clusters + of_classes) if of_clusters + of_classes else 1.0, abs=1e-9
    )
    within, chance = pairs_within(counts), pairs_within(counts.sum(axis=1)) * pairs_within(counts.sum(axis=0))
    chance /= max(len(pairs) * (len(pairs) - 1) / 2, 1)
    most = (pairs_within(counts.sum(axis=1)) + pairs_within(counts.sum(axis=0))) / 2
    assert found.ari == pytest.approx(1.0 if most == chance else (within - chance) / (most - chance), abs=1e-9)


def test_purity_is_the_share_of_images_in_the_main_class_of_their_cluster() -> None:
    clusters, classes = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    assert agreement(clusters, classes).purity == pytest.approx(5 / 6)


def test_names_of_clusters_do_not_matter() -> None:
    clusters = np.array([0, 0, 1, 1, 2, 2])
    assert agreement(clusters, np.array([2, 2, 0, 0, 1, 1])).ari == 1.0
    assert agreement(clusters, np.array([0, 1, 0, 1, 0, 1])).ari < 0.1


def test_no_images_and_as_many_classes_as_images_are_scored_without_a_warning() -> None:
    nothing = np.empty(0, np.int64)
    assert agreement(nothing, nothing).purity == agreement(nothing, nothing).ari == 1.0
    assert agreement(np.arange(60), np.arange(60)).nmi == pytest.approx(1.0)
