"""Duplicates of pictures: their kinds and distances, and the command with its links."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from collections_of import indexed
from grid_mean import GridMean
from groups_of import only
from pictures import draw
from textures import textured, write

from imgindex import ImageIndex
from imgindex.errors import UsageError


def test_each_duplicate_has_its_grade_and_its_distance_to_the_kept_image(gallery: ImageIndex) -> None:
    found = gallery.duplicates()
    assert only(found.groups) == {"larger.png": ("kept", ""), "red.png": ("copy", ""), "copy.png": ("copy", "")}
    assert (found.images, found.grades, found.failures) == (7, ("same", "copy"), ())
    (group,) = found.groups
    assert group.why.startswith("largest: 192 × 192 pixels")
    vectors = dict(zip(gallery.paths(), gallery.vectors(), strict=True))
    for one in group.others:
        assert one.distance == pytest.approx(np.linalg.norm(vectors[one.path] - vectors[group.kept.path]), rel=1e-5)
    assert sorted(Path(one.path).name for one in group.disposable) == ["copy.png", "red.png"]


def test_bytes_alone_are_compared_on_request(gallery: ImageIndex) -> None:
    found = gallery.duplicates(exact=True)
    assert only(found.groups) == {"copy.png": ("kept", ""), "red.png": ("same", "")}
    assert found.groups[0].why == "oldest: 1970-01-01 00:33:20, the next 1970-01-01 00:50:00"
    assert (found.grades, found.compared) == (("same",), 0)
    for options in ({"similar": True}, {"rotations": True}, {"flips": True}):
        with pytest.raises(UsageError, match="bytes alone"):
            gallery.duplicates(exact=True, **options)


def test_similar_images_are_shown_on_request_and_never_disposable(gallery: ImageIndex) -> None:
    found = gallery.duplicates(similar=True, distance=10)
    assert found.grades == ("same", "copy", "similar")
    (group,) = found.groups
    hows = {Path(one.path).name: one.how for one in group.images}
    assert hows["other.png"] == hows["turned.png"] == "similar"
    assert hows["red.png"] == "copy"
    assert sorted(Path(one.path).name for one in group.disposable) == ["copy.png", "red.png"]
    assert [one.how for one in group.others] == sorted(
        (one.how for one in group.others), key=["same", "copy", "similar"].index
    )


def test_similar_images_without_copies_make_groups_of_their_own(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"p/{number}.png", textured(number))
    with indexed(tmp_path, tmp_path / "p") as index:
        assert index.duplicates().groups == ()
        (group,) = index.duplicates(similar=True, distance=10).groups
        assert [one.how for one in group.images] == ["kept", "similar", "similar"]
        assert group.disposable == ()


def test_similar_images_need_a_distance_where_none_is_calibrated(gallery: ImageIndex) -> None:
    with pytest.raises(UsageError, match="no distance is calibrated") as error:
        gallery.duplicates(similar=True)
    assert "`distance=D`" in error.value.hint
    with pytest.raises(UsageError, match="similar images only"):
        gallery.duplicates(distance=0.1)
    with pytest.raises(UsageError, match="not a rule for what to keep"):
        gallery.duplicates(keep="prettiest")


def test_images_of_one_part_each_are_copies_of_the_whole_and_not_of_each_other(tmp_path: Path) -> None:
    whole = textured(5)
    write(tmp_path / "p/whole.png", whole)
    # Larger than the whole, so that it is kept: the other part must not be disposable then.
    write(tmp_path / "p/left.png", whole.crop((0, 0, 150, 180)).resize((600, 720)))
    write(tmp_path / "p/right.png", whole.crop((90, 0, 240, 180)))
    with indexed(tmp_path, tmp_path / "p") as index:
        for group in index.duplicates().groups:
            names = {Path(one.path).name for one in group.images}
            assert not {"left.png", "right.png"} <= names


def test_an_empty_index_and_one_image_have_no_duplicates(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        assert index.duplicates(rotations=True).groups == ()
        draw(tmp_path / "p/0.png", 0)
        index.add([tmp_path / "p"])
        assert index.duplicates(rotations=True, flips=True).groups == ()
        assert index.duplicates(exact=True).groups == ()
