"""Images that are in both of two sets: the pairs, their distances, and the exit code for CI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from collections_of import leaking_sets
from grid_mean import GRID_RECIPE, GridMean
from scipy.spatial.distance import cdist

import imgindex.curation.neighbours
from imgindex import ImageIndex
from imgindex.errors import PathNotFound, UsageError
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile


@pytest.fixture
def split(tmp_path: Path) -> Iterator[ImageIndex]:
    with leaking_sets(tmp_path) as index:
        yield index


def pairs(index: ImageIndex, a: Path, b: Path, **options: float) -> list[tuple[str, str, str]]:
    found = index.leak(a, b, **options)
    assert [one.rank for one in found] == list(range(1, 1 + len(found)))
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    return [(Path(one.a).name, str(Path(one.b).name), one.how) for one in found]


def test_pairs_of_both_sets_are_found_nearest_first(split: ImageIndex, tmp_path: Path) -> None:
    found = pairs(split, tmp_path / "train", tmp_path / "test", distance=0.1)
    assert found == [("1.png", "copy.png", "exact"), ("2.png", "2.png", "near"), ("2.png", "near.png", "near")]
    turned = pairs(split, tmp_path / "test", tmp_path / "train", distance=0.1)
    assert {(b, a, how) for a, b, how in found} == set(turned)
    assert pairs(split, tmp_path / "train", tmp_path / "test", distance=0.1, n=1) == found[:2]
    assert pairs(split, tmp_path / "train", tmp_path / "test/sub/2.png", distance=0.1) == [found[1]]
    assert pairs(split, tmp_path / "train/0.png", tmp_path / "test", distance=0.1) == []


def test_an_image_below_both_paths_never_pairs_with_itself_and_pairs_once_with_another(
    split: ImageIndex, tmp_path: Path
) -> None:
    found = pairs(split, tmp_path, tmp_path / "test", distance=0.1)
    assert {frozenset((a, b)) for a, b, _ in found} == {
        frozenset(("1.png", "copy.png")),
        frozenset(("2.png",)),
        frozenset(("2.png", "near.png")),
    }
    # near.png is near to the 2.png of either set.
    assert len(found) == 4
    assert pairs(split, tmp_path / "train", tmp_path / "train", distance=0.01) == []


def test_a_path_without_images_is_an_error(split: ImageIndex, tmp_path: Path) -> None:
    for a, b in (("train", "nothing"), ("nothing", "test")):
        with pytest.raises(PathNotFound, match=r"no image at .*nothing"):
            split.leak(tmp_path / a, tmp_path / b, distance=0.1)
    with pytest.raises(UsageError, match="calibrated"):
        split.leak(tmp_path / "train", tmp_path / "test")
    with pytest.raises(UsageError, match="at least one"):
        split.leak(tmp_path / "train", tmp_path / "test", distance=0.1, n=0)


def test_the_pairs_among_20_000_vectors_are_those_of_an_exact_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.curation.neighbours, "QUERIES", 700)
    rng = np.random.default_rng(5)
    vectors = rng.uniform(0, 1, (20_000, 12)).astype(np.float32)
    vectors[15_000:15_200] = vectors[:200] + rng.uniform(-0.02, 0.02, (200, 12)).astype(np.float32)
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.encoder = GridMean()
        with index._store.writing() as writer:
            for number, vector in enumerate(vectors):
                name = str(tmp_path / ("a" if number < 15_000 else "b") / f"{number}.png")
                writer.put(NewImage(FoundFile(name, 1, 1), number.to_bytes(32, "big"), 1, 1, "PNG"), vector)
            writer.commit()
        found = {
            (int(Path(one.a).stem), int(Path(one.b).stem))
            for one in index.leak(tmp_path / "a", tmp_path / "b", distance=0.2)
        }
    apart = cdist(vectors[:15_000], vectors[15_000:])
    wanted = {(int(a), 15_000 + int(b)) for a, b in np.argwhere(apart <= 0.2)}
    assert len(wanted) >= 200
    assert found == wanted
