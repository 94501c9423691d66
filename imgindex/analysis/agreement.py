"""How far two labellings of the same images agree: with each other, or with what a person says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgindex.analysis.points import Labels

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Scores of a labelling against another one; all are at most 1, which is full agreement.

    ari: adjusted Rand index (Hubert and Arabie 1985), 0 on average by chance. nmi: mutual information over the mean
    entropy. homogeneity: each cluster holds one class alone; completeness: each class lies in one cluster; v_measure:
    their harmonic mean (Rosenberg and Hirschberg 2007), which is the nmi. purity: share of images in the class that is
    most frequent in their cluster.
    """

    ari: float
    nmi: float
    homogeneity: float
    completeness: float
    v_measure: float
    purity: float


def confusion(one: npt.ArrayLike, other: npt.ArrayLike) -> Counts:
    """Return how many images have which pair of labels, int64 (labels of one, labels of other), both sorted."""
    rows, one = np.unique(np.asarray(one), return_inverse=True)
    columns, other = np.unique(np.asarray(other), return_inverse=True)
    counts = np.zeros((len(rows), len(columns)), dtype=np.int64)
    np.add.at(counts, (one, other), 1)
    return counts


def agreement(counts: Counts) -> Agreement:
    """Score a confusion of clusters (rows) and classes (columns)."""
    n = int(counts.sum())
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    of_rows, of_columns = _entropy(rows), _entropy(columns)
    mutual = max(0.0, of_rows + of_columns - _entropy(counts.ravel()))
    homogeneity = mutual / of_columns if of_columns else 1.0
    completeness = mutual / of_rows if of_rows else 1.0
    both = homogeneity + completeness
    return Agreement(
        ari=_adjusted_rand(counts, rows, columns, n),
        nmi=2 * mutual / (of_rows + of_columns) if of_rows + of_columns else 1.0,
        homogeneity=homogeneity,
        completeness=completeness,
        v_measure=2 * homogeneity * completeness / both if both else 0.0,
        purity=float(counts.max(axis=1).sum() / n) if n else 1.0,
    )


def adjusted_rand(one: Labels, other: Labels) -> float:
    """Return the adjusted Rand index of two labellings (n,)."""
    return agreement(confusion(one, other)).ari


def _adjusted_rand(counts: Counts, rows: Counts, columns: Counts, n: int) -> float:
    together, in_rows, in_columns = (_pairs(part) for part in (counts.ravel(), rows, columns))
    all_pairs = n * (n - 1) / 2
    by_chance = in_rows * in_columns / all_pairs if all_pairs else 0.0
    most = (in_rows + in_columns) / 2
    return 1.0 if most == by_chance else (together - by_chance) / (most - by_chance)


def _pairs(counts: Counts) -> float:
    numbers = counts.astype(np.float64)
    return float((numbers * (numbers - 1) / 2).sum())


def _entropy(counts: Counts) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
