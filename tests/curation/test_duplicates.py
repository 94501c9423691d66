"""Duplicates of pictures: their kinds and distances, and the command with its links."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE, GridMean
from groups_of import only
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import UsageError


def test_each_duplicate_has_its_kind_and_its_distance_to_the_kept_image(gallery: ImageIndex) -> None:
    found = gallery.duplicates(distance=0.1)
    assert only(found.groups) == {"larger.png": ("kept", ""), "red.png": ("near", ""), "copy.png": ("near", "")}
    (group,) = found.groups
    assert group.why == "largest: 64 × 64 pixels, the next 32 × 32 pixels"
    vectors = dict(zip(gallery.paths(), gallery.vectors(), strict=True))
    for one in group.others:
        assert one.distance == pytest.approx(np.linalg.norm(vectors[one.path] - vectors[group.kept.path]), rel=1e-5)
    assert [Path(one.path).name for one in group.disposable] == ["red.png", "copy.png"]


def test_bytes_alone_need_no_distance(gallery: ImageIndex) -> None:
    found = gallery.duplicates(exact=True)
    assert only(found.groups) == {"red.png": ("kept", ""), "copy.png": ("exact", "")}
    assert found.distance is None
    assert found.groups[0].why == "as large as the next, 32 × 32 pixels, and before it in the index"


def test_a_recipe_without_a_calibrated_distance_needs_one(gallery: ImageIndex) -> None:
    with pytest.raises(UsageError, match="no distance is calibrated") as error:
        gallery.duplicates()
    assert "--distance" in error.value.hint
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="a distance cannot be"):
            gallery.duplicates(distance=wrong)
    with pytest.raises(UsageError, match="not a rule for what to keep"):
        gallery.duplicates(distance=0.1, keep="prettiest")


def test_an_empty_index_and_one_image_have_no_duplicates(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = GridMean()
        assert index.duplicates(distance=0.1, rotations=True).groups == ()
        draw(tmp_path / "p/0.png", 0)
        index.add([tmp_path / "p"])
        assert index.duplicates(distance=0.1, rotations=True, flips=True).groups == ()
        assert index.duplicates(exact=True).groups == ()
