"""Outliers: the images least like any other, by their nearest other image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_of import greys_and_two_apart
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.errors import UsageError


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    with greys_and_two_apart(tmp_path) as index:
        yield index


def test_the_image_least_like_any_other_comes_first_with_its_nearest_one(gallery: ImageIndex) -> None:
    first, second, third, *_ = gallery.outliers(n=5)
    assert (Path(first.path).name, Path(second.path).name) == ("green.png", "red.png")
    assert (first.rank, second.rank) == (1, 2)
    assert Path(first.nearest).name == "0.png"
    nearest = next(gallery.images(ids=[first.nearest_id]))
    assert nearest.path == first.nearest
    vectors = dict(zip(gallery.paths(), gallery.vectors(), strict=True))
    assert first.distance == pytest.approx(np.linalg.norm(vectors[first.path] - vectors[first.nearest]), rel=1e-5)
    assert first.times > second.times > 10 > third.times == pytest.approx(1, rel=0.01)
    assert len(gallery.outliers(n=100)) == 15
    assert [Path(one.path).name for one in gallery.outliers(n=100)[-2:]] == ["3 again.png", "3.png"]


def test_removed_images_are_neither_outliers_nor_nearest(gallery: ImageIndex) -> None:
    gallery.remove([path for path in gallery.paths() if path.endswith("green.png")])
    assert Path(gallery.outliers(n=1)[0].path).name == "red.png"


def test_an_index_without_two_images_has_no_outliers_and_n_must_be_positive(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        assert index.outliers() == []
        draw(tmp_path / "p/1.png", 1)
        index.add([tmp_path / "p"])
        assert index.outliers() == []
        draw(tmp_path / "p/2.png", (37, 101, 211), (64, 64))
        index.add([tmp_path / "p"])
        assert [(one.distance, one.times) for one in index.outliers()] == [(0, 0), (0, 0)]
        with pytest.raises(UsageError, match="at least one"):
            index.outliers(n=0)


def test_the_reason_names_a_pair_apart_from_the_rest_and_a_copy(gallery: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "p/green too.png", (0, 250, 0))
    gallery.add([tmp_path / "p"])
    reasons = {Path(one.path).name: one.reason for one in gallery.outliers(n=100)}
    assert "a pair apart from the rest" in reasons["green.png"]
    assert "a pair" not in reasons["red.png"]
    assert reasons["3.png"].startswith("another has the same vector")
