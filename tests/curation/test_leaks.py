"""Images that are in both of two sets: the pairs, their distances, and the exit code for CI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collections_of import indexed, leaking_sets
from PIL import Image, ImageDraw
from textures import textured, write

from imgindex import ImageIndex
from imgindex.errors import PathNotFound, UsageError


@pytest.fixture
def split(tmp_path: Path) -> Iterator[ImageIndex]:
    with leaking_sets(tmp_path) as index:
        yield index


def pairs(index: ImageIndex, a: Path, b: Path, **options: Any) -> list[tuple[str, str, str]]:
    found = index.leak(a, b, **options)
    assert [one.rank for one in found] == list(range(1, 1 + len(found)))
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    return [(Path(one.a).name, str(Path(one.b).name), one.how) for one in found]


def test_pairs_of_both_sets_are_found_nearest_first(split: ImageIndex, tmp_path: Path) -> None:
    found = pairs(split, tmp_path / "train", tmp_path / "test")
    assert found[0] == ("1.png", "copy.png", "same")
    assert sorted(found[1:]) == [("2.png", "2.png", "copy"), ("2.png", "compressed.png", "copy")]
    turned = pairs(split, tmp_path / "test", tmp_path / "train")
    assert {(b, a, how) for a, b, how in found} == set(turned)
    assert pairs(split, tmp_path / "train", tmp_path / "test/sub/2.png") == [("2.png", "2.png", "copy")]
    assert pairs(split, tmp_path / "train/0.png", tmp_path / "test") == []


def test_an_image_below_both_paths_never_pairs_with_itself_and_pairs_once_with_another(
    split: ImageIndex, tmp_path: Path
) -> None:
    found = pairs(split, tmp_path, tmp_path / "test")
    assert {frozenset((a, b)) for a, b, _ in found} == {
        frozenset(("1.png", "copy.png")),
        frozenset(("2.png",)),
        frozenset(("2.png", "compressed.png")),
    }
    # compressed.png is a copy of the 2.png of either set.
    assert len(found) == 4
    assert pairs(split, tmp_path / "train", tmp_path / "train") == []


@pytest.mark.parametrize("background", ["white", "black"])
def test_a_cut_out_leaks_that_was_flattened_elsewhere(tmp_path: Path, background: str) -> None:
    picture = textured(4).convert("RGBA")
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse((30, 20, 210, 160), fill=255)
    picture.putalpha(mask)
    flat = Image.new("RGBA", picture.size, background)
    flat.alpha_composite(picture)
    write(tmp_path / "train/cut out.png", picture)
    write(tmp_path / "test/flat.png", flat.convert("RGB"))
    write(tmp_path / "test/other.png", textured(5))
    with indexed(tmp_path, tmp_path / "train", tmp_path / "test") as index:
        found = pairs(index, tmp_path / "train", tmp_path / "test")
    assert found == [("cut out.png", "flat.png", "copy")]


def test_similar_images_are_listed_on_request(split: ImageIndex, tmp_path: Path) -> None:
    copies = pairs(split, tmp_path / "train", tmp_path / "test")
    found = pairs(split, tmp_path / "train", tmp_path / "test", similar=True, distance=10.0, n=100)
    assert set(copies) < set(found)
    assert {how for _, _, how in found} == {"same", "copy", "similar"}
    assert len(found) == 4 * 7


def test_a_path_without_images_is_an_error(split: ImageIndex, tmp_path: Path) -> None:
    for a, b in (("train", "nothing"), ("nothing", "test")):
        with pytest.raises(PathNotFound, match=r"no image at .*nothing"):
            split.leak(tmp_path / a, tmp_path / b)
    with pytest.raises(UsageError, match="calibrated"):
        split.leak(tmp_path / "train", tmp_path / "test", similar=True)
    with pytest.raises(UsageError, match="similar images only"):
        split.leak(tmp_path / "train", tmp_path / "test", distance=0.1)
    with pytest.raises(UsageError, match="at least one"):
        split.leak(tmp_path / "train", tmp_path / "test", n=0)


def test_an_image_that_cannot_be_read_is_a_failure(split: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "test/compressed.png").unlink()
    found = split.leak(tmp_path / "train", tmp_path / "test")
    assert [Path(one.path).name for one in found.failures] == ["compressed.png"]
    assert len(found) == 2
