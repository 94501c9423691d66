"""Scores of labellings: those of scikit-learn, also where there is hardly anything to agree about."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from imgindex.analysis.agreement import adjusted_rand, agreement, confusion

LABELS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=60)


@settings(deadline=None)
@given(LABELS)
def test_scores_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    clusters, classes = (np.array(labels) for labels in zip(*pairs, strict=True))
    found = agreement(confusion(clusters, classes))
    assert found.ari == pytest.approx(metrics.adjusted_rand_score(classes, clusters), abs=1e-9)
    assert found.nmi == pytest.approx(metrics.normalized_mutual_info_score(classes, clusters), abs=1e-9)
    wanted = metrics.homogeneity_completeness_v_measure(classes, clusters)
    assert (found.homogeneity, found.completeness, found.v_measure) == pytest.approx(wanted, abs=1e-9)


def test_the_confusion_counts_images_by_both_labels() -> None:
    clusters, classes = [0, 0, 1, 1, 1, 2], ["cat", "cat", "dog", "dog", "cat", "cow"]
    counts = confusion(clusters, classes)
    np.testing.assert_array_equal(counts, [[2, 0, 0], [1, 0, 2], [0, 1, 0]])
    assert agreement(counts).purity == pytest.approx(5 / 6)


def test_names_of_clusters_do_not_matter() -> None:
    one = np.array([0, 0, 1, 1, 2, 2])
    assert adjusted_rand(one, np.array([2, 2, 0, 0, 1, 1])) == 1.0
    assert adjusted_rand(one, np.array([0, 1, 0, 1, 0, 1])) < 0.1
