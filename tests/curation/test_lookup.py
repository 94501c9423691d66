"""Lookup: files are new, the same, copies or failed, and nothing is added."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_of import incoming_files, indexed, of_vectors, picture_and_grey, quarters
from grid_mean import GridMean, replace_encoder
from pictures import contents
from PIL import Image, ImageDraw
from textures import textured, write

import imgindex.curation.lookup
from imgindex import ImageIndex
from imgindex.errors import PathNotFound, UsageError
from imgindex.results import LookupResult


@pytest.fixture
def known(tmp_path: Path) -> Iterator[ImageIndex]:
    with picture_and_grey(tmp_path) as index:
        yield index


@pytest.fixture
def incoming(known: ImageIndex, tmp_path: Path) -> Path:
    return incoming_files(tmp_path)


def grades(found: list[LookupResult]) -> dict[str, tuple[str, str]]:
    return {Path(one.path).name: (one.how, Path(one.match or "").name) for one in found}


def test_each_file_is_new_same_copy_or_failed_and_none_is_added(
    known: ImageIndex, incoming: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    results = known.lookup([incoming])
    assert grades(results) == {
        "broken.png": ("failed", ""),
        "copy.png": ("same", "original.png"),
        "larger.png": ("copy", "original.png"),
        "turned.png": ("new", "original.png"),
        "white.png": ("new", "grey.png"),
    }
    distances = {Path(one.path).name: one.distance for one in results}
    assert distances["copy.png"] == 0
    assert 0 < distances["larger.png"] < distances["turned.png"]
    assert distances["white.png"] == pytest.approx(12**0.5 * 127 / 255, rel=1e-4)
    assert results[0].reason == "not an image that Pillow can read"
    assert contents(tmp_path) == before


def test_near_files_are_similar_on_request(known: ImageIndex, incoming: Path) -> None:
    found = grades(known.lookup([incoming], similar=True, distance=10))
    assert found["turned.png"] == ("similar", "original.png")
    assert found["white.png"] == ("similar", "grey.png")
    assert found["larger.png"] == ("copy", "original.png")


def test_a_turned_file_is_a_copy_on_request(known: ImageIndex, incoming: Path) -> None:
    (one,) = known.lookup([incoming / "turned.png"], rotations=True)
    assert (one.how, one.turned) == ("copy", "turned by 270°")
    (upright,) = known.lookup([incoming / "larger.png"], rotations=True, flips=True)
    assert (upright.how, upright.turned) == ("copy", "")


def test_files_with_known_bytes_need_no_encoder(known: ImageIndex, incoming: Path, tmp_path: Path) -> None:
    class None_:
        batch_size = streams = 1
        precision = "fp32"

        def encode(self, batch: np.ndarray) -> np.ndarray:
            raise AssertionError("a picture was embedded")

    shutil.copy(tmp_path / "known/grey.png", tmp_path / "known/a grey copy.png")
    known.add([tmp_path / "known"])
    replace_encoder(known, None_())
    assert grades(known.lookup([incoming / "copy.png", tmp_path / "known"])) == {
        "copy.png": ("same", "original.png"),
        "a grey copy.png": ("same", "a grey copy.png"),
        "original.png": ("same", "original.png"),
        "grey.png": ("same", "grey.png"),
    }


def test_a_blank_file_is_a_copy_only_of_an_image_with_the_same_pixels(known: ImageIndex, tmp_path: Path) -> None:
    grey = Image.open(tmp_path / "known/grey.png")
    write(tmp_path / "new/grey.webp", grey, lossless=True)
    write(tmp_path / "new/larger.png", grey.resize((64, 64)))
    write(tmp_path / "new/other.png", Image.new("RGB", grey.size, (128, 128, 129)))
    found = grades(known.lookup([tmp_path / "new"]))
    assert {name: how for name, (how, _) in found.items()} == {
        "grey.webp": "copy",
        "larger.png": "new",
        "other.png": "new",
    }
    (tmp_path / "known/grey.png").unlink()
    assert grades(known.lookup([tmp_path / "new/grey.webp"]))["grey.webp"][0] == "new"


def test_a_removed_image_is_not_a_match(known: ImageIndex, incoming: Path, tmp_path: Path) -> None:
    known.remove([tmp_path / "known/original.png"])
    assert grades(known.lookup([incoming / "copy.png"])) == {"copy.png": ("new", "grey.png")}


def test_in_an_empty_index_every_picture_is_new(known: ImageIndex, tmp_path: Path, incoming: Path) -> None:
    with ImageIndex.create(tmp_path / "empty.imgindex", encoder=GridMean()) as index:
        results = index.lookup([incoming])
    assert {one.how for one in results} == {"new", "failed"}
    assert {(one.match, one.distance, one.id) for one in results} == {(None, None, None)}


def test_a_missing_path_and_a_distance_without_effect_are_errors(known: ImageIndex, tmp_path: Path) -> None:
    with pytest.raises(PathNotFound):
        known.lookup([tmp_path / "absent"])
    with pytest.raises(UsageError, match="calibrated"):
        known.lookup([tmp_path / "known"], similar=True)
    with pytest.raises(UsageError, match="similar images only"):
        known.lookup([tmp_path / "known"], distance=0.1)


def test_the_nearest_image_among_20_000_is_that_of_an_exact_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.curation.lookup, "QUERIES", 3)
    rng = np.random.default_rng(3)
    vectors = rng.uniform(0, 1, (20_000, 12)).astype(np.float32)
    for number in range(8):
        quarters(tmp_path / "new" / f"{number}.png", *rng.integers(0, 256, (4, 3)).tolist())
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        results = index.lookup([tmp_path / "new"], similar=True, distance=0.5)
        again = ImageIndex.create(tmp_path / "new.imgindex", encoder=GridMean())
        with again:
            again.add([tmp_path / "new"])
            wanted = np.linalg.norm(again.vectors()[:, None] - vectors, axis=2)
    assert [Path(one.match).name for one in results] == [f"{best}.png" for best in wanted.argmin(axis=1)]
    np.testing.assert_allclose([one.distance for one in results], wanted.min(axis=1), rtol=1e-5)
    assert [one.how for one in results] == ["similar" if best <= 0.5 else "new" for best in wanted.min(axis=1)]


@pytest.mark.parametrize("background", ["white", "black", (90, 140, 60)])
@pytest.mark.parametrize("ink", [0, 255])
def test_a_transparent_picture_is_found_on_other_backgrounds(tmp_path: Path, background: str, ink: int) -> None:
    """A cut-out of a photograph, and a drawing of one colour where it can be seen on the background."""
    picture = textured(4).convert("RGBA")
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse((30, 20, 210, 160), fill=255)
    picture.putalpha(mask)
    ImageDraw.Draw(picture).line((60, 60, 180, 120), fill=(ink, ink, ink, 255), width=5)
    write(tmp_path / "known/cut out.png", picture)
    flat = Image.new("RGBA", picture.size, background)
    flat.alpha_composite(picture)
    write(tmp_path / "new/flat.png", flat.convert("RGB"))
    with indexed(tmp_path, tmp_path / "known") as index:
        (one,) = index.lookup(tmp_path / "new")
    # On a third background only what is inside the outline agrees.
    assert one.how == ("copy" if isinstance(background, str) else "new")
