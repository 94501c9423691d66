"""The calibrated distances: those of the benchmark, interpolated between sides, and an error without one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imgindex.curation.thresholds import FC1, POOL5, threshold
from imgindex.errors import UsageError
from imgindex.recipe import Recipe, get_recipe

RESULTS = Path(__file__).parents[2] / "benchmarks/results/duplicates.json"


def pool5(size: int) -> Recipe:
    return get_recipe("vgg16-pool5", size=size)


def test_the_calibrated_distances_are_those_of_the_benchmark() -> None:
    measured = {row["recipe"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))["thresholds"]}
    assert {f"vgg16-pool5 at {side} px": near for side, near in POOL5.items()} | {
        "vgg16-fc1, with a random fc1": FC1
    } == {name: row["distance"] for name, row in measured.items()}
    assert all(row["precision"] >= 0.99 for row in measured.values())
    assert all(threshold(pool5(side)) == near for side, near in POOL5.items())


def test_other_sides_are_interpolated_and_clamped() -> None:
    assert POOL5[320] > threshold(pool5(384)) > POOL5[448]
    assert threshold(pool5(32)) == POOL5[96]
    assert threshold(pool5(1024)) == POOL5[448]
    assert threshold(get_recipe("vgg16-fc1")) == FC1


@pytest.mark.parametrize(
    "recipe",
    [
        get_recipe("article"),
        replace(get_recipe("vgg16-pool5"), weights="random:1"),
        replace(get_recipe("vgg16-fc1"), norm="none"),
    ],
)
def test_without_a_calibrated_distance_one_must_be_given(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="no distance is calibrated"):
        threshold(recipe)
    assert threshold(recipe, 12.5) == 12.5
