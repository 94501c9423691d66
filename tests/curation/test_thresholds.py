"""The calibrated distances: those of the benchmark, interpolated between sides, and an error without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imgindex.curation.thresholds import CANDIDATES, FC1, LITE2, POOL5, calibrated, candidate_distance, similar_distance
from imgindex.errors import UsageError
from imgindex.recipe import Recipe, get_recipe

RESULTS = Path(__file__).parents[2] / "benchmarks/results/duplicates.json"


def pool5(size: int) -> Recipe:
    return get_recipe("vgg16-pool5", size=size)


def test_the_calibrated_distances_are_those_of_the_benchmark() -> None:
    measured = {row["recipe"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))["thresholds"]}
    assert {f"vgg16-pool5 at {side} px": near for side, near in POOL5.items()} | {
        "efficientnet-lite2": LITE2,
        "vgg16-fc1, with a random fc1": FC1,
    } == {name: row["distance"] for name, row in measured.items()}
    assert all(row["precision"] >= 0.99 for row in measured.values())
    assert all(calibrated(pool5(side)) == near for side, near in POOL5.items())


def test_other_sides_are_interpolated_and_clamped() -> None:
    assert POOL5[160] < calibrated(pool5(192)) < POOL5[224]
    assert calibrated(pool5(32)) == POOL5[96]
    assert calibrated(pool5(1024)) == POOL5[448]
    assert calibrated(get_recipe("vgg16-fc1")) == FC1
    assert calibrated(get_recipe("efficientnet-lite2")) == LITE2


@pytest.mark.parametrize(
    "recipe",
    [
        get_recipe("article"),
        replace(get_recipe("vgg16-pool5"), offset=""),
        replace(get_recipe("efficientnet-lite2"), offset=""),
        replace(get_recipe("vgg16-fc1"), norm="none"),
    ],
)
def test_without_a_calibrated_distance_one_must_be_given(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no distance is calibrated"):
        similar_distance(recipe, None, similar=True)
    assert similar_distance(recipe, 12.5, similar=True) == 12.5
    assert candidate_distance(recipe) is None


def test_copies_may_be_farther_apart_than_similar_images() -> None:
    assert candidate_distance(pool5(224)) == CANDIDATES * POOL5[224] > POOL5[224]
    assert similar_distance(pool5(224), None, similar=True) == POOL5[224]
    assert similar_distance(pool5(224), None, similar=False) is None


@pytest.mark.parametrize("distance", [-0.1, float("nan"), float("inf")])
def test_an_impossible_distance_is_an_error(distance: float) -> None:
    with pytest.raises(UsageError, match="a distance cannot be"):
        similar_distance(pool5(224), distance, similar=True)


def test_a_distance_without_similar_images_is_an_error() -> None:
    with pytest.raises(UsageError, match="similar images only"):
        similar_distance(pool5(224), 0.3, similar=False)
