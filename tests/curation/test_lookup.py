"""Lookup: files are new, exact, near or failed, and nothing is added."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from collections_of import colours_and_grey, incoming_files, of_vectors, quarters
from grid_mean import GRID_RECIPE, GridMean
from pictures import contents

import imgindex.curation.lookup
from imgindex import ImageIndex
from imgindex.errors import PathNotFound, UsageError
from imgindex.results import LookupResult


@pytest.fixture
def known(tmp_path: Path) -> Iterator[ImageIndex]:
    with colours_and_grey(tmp_path) as index:
        yield index


@pytest.fixture
def incoming(known: ImageIndex, tmp_path: Path) -> Path:
    return incoming_files(tmp_path)


def statuses(found: list[LookupResult]) -> dict[str, tuple[str, str]]:
    return {Path(one.path).name: (one.status, Path(one.match or "").name) for one in found}


def test_each_file_is_new_exact_near_or_failed_and_none_is_added(
    known: ImageIndex, incoming: Path, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    results = known.lookup([incoming], distance=0.1)
    assert [Path(one.path).name for one in results] == ["broken.png", "copy.png", "near.png", "turned.png", "white.png"]
    assert statuses(results) == {
        "broken.png": ("failed", ""),
        "copy.png": ("exact", "colours.png"),
        "near.png": ("near", "colours.png"),
        "turned.png": ("new", "grey.png"),
        "white.png": ("new", "grey.png"),
    }
    distances = {Path(one.path).name: one.distance for one in results}
    assert distances["copy.png"] == 0
    assert distances["near.png"] == pytest.approx(10 / 255, rel=1e-4)
    assert distances["white.png"] == pytest.approx(12**0.5 * 127 / 255, rel=1e-4)
    assert results[0].reason == "not an image that Pillow can read"
    assert contents(tmp_path) == before


def test_a_turned_file_is_near_on_request(known: ImageIndex, incoming: Path) -> None:
    (one,) = known.lookup([incoming / "turned.png"], distance=0.1, rotations=True)
    assert (one.status, one.turned) == ("near", "turned by 270°")
    assert one.distance == pytest.approx(0, abs=1e-5)
    (near,) = known.lookup([incoming / "near.png"], distance=0.1, rotations=True, flips=True)
    assert (near.status, near.turned) == ("near", "")


def test_copies_need_no_encoder_and_an_image_is_a_copy_of_itself(
    known: ImageIndex, incoming: Path, tmp_path: Path
) -> None:
    def none() -> GridMean:
        raise AssertionError("an encoder was made")

    context = known._embedding_context(None)
    shutil.copy(tmp_path / "known/grey.png", tmp_path / "known/a grey copy.png")
    known.add([tmp_path / "known"])
    results = imgindex.curation.lookup.lookup(
        known._store,
        known.recipe,
        [str(incoming / "copy.png"), str(tmp_path / "known")],
        replace(context, make_encoder=none),
        distance=0.1,
        rotations=False,
        flips=False,
    )
    assert statuses(results) == {
        "copy.png": ("exact", "colours.png"),
        "a grey copy.png": ("exact", "a grey copy.png"),
        "colours.png": ("exact", "colours.png"),
        "grey.png": ("exact", "grey.png"),
    }


def test_a_removed_image_is_not_a_match(known: ImageIndex, incoming: Path, tmp_path: Path) -> None:
    known.remove([tmp_path / "known/colours.png"])
    assert statuses(known.lookup([incoming / "copy.png"], distance=0.1)) == {"copy.png": ("new", "grey.png")}


def test_in_an_empty_index_every_picture_is_new(known: ImageIndex, tmp_path: Path, incoming: Path) -> None:
    with ImageIndex.create(tmp_path / "empty.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = GridMean()
        results = index.lookup([incoming], distance=0.1)
    assert {one.status for one in results} == {"new", "failed"}
    assert {(one.match, one.distance, one.id) for one in results} == {(None, None, None)}


def test_a_missing_path_and_a_recipe_without_a_calibrated_distance_are_errors(
    known: ImageIndex, tmp_path: Path
) -> None:
    with pytest.raises(PathNotFound):
        known.lookup([tmp_path / "absent"], distance=0.1)
    with pytest.raises(UsageError, match="calibrated"):
        known.lookup([tmp_path / "known"])


def test_lookup_among_20_000_vectors_agrees_with_an_exact_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.curation.lookup, "QUERIES", 3)
    rng = np.random.default_rng(3)
    vectors = rng.uniform(0, 1, (20_000, 12)).astype(np.float32)
    for number in range(8):
        quarters(tmp_path / "new" / f"{number}.png", *rng.integers(0, 256, (4, 3)).tolist())
    with of_vectors(tmp_path / "it.imgindex", vectors) as index:
        results = index.lookup([tmp_path / "new"], distance=0.5)
        again = ImageIndex.create(tmp_path / "new.imgindex", recipe=GRID_RECIPE)
        again.encoder = GridMean()
        with again:
            again.add([tmp_path / "new"])
            wanted = np.linalg.norm(again.vectors()[:, None] - vectors, axis=2)
    assert [Path(one.match).name for one in results] == [f"{best}.png" for best in wanted.argmin(axis=1)]
    np.testing.assert_allclose([one.distance for one in results], wanted.min(axis=1), rtol=1e-5)
    assert [one.status for one in results] == ["near" if best <= 0.5 else "new" for best in wanted.min(axis=1)]
