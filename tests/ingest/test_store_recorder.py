"""What becomes of files by their content: added, updated, renamed or copied, and each vector made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from add_checks import counts, ids, later, means, names, vector
from grid_mean import GridMean, replace_encoder
from pictures import draw

from imgindex import ImageIndex


def test_a_renamed_image_keeps_its_id_and_is_not_embedded_again(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    before = ids(index)
    (folder / "a/3.png").rename(folder / "b/three.png")
    assert counts(index.add([folder])) == {"renamed": 1, "unchanged": 11}
    assert ids(index)["three.png"] == before["3.png"]
    assert "3.png" not in names(index)
    assert encoder.embedded == 12


def test_a_copy_is_an_image_of_its_own_with_the_same_vector_and_no_work(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    shutil.copy(folder / "a/3.png", folder / "b/copy.png")
    assert counts(index.add([folder])) == {"reused": 1, "unchanged": 12}
    assert vector(index, "copy.png") == vector(index, "3.png")
    assert len(set(ids(index).values())) == 13
    assert encoder.embedded == 12


def test_the_same_bytes_twice_in_one_run_are_embedded_once(
    index: ImageIndex, tmp_path: Path, encoder: GridMean
) -> None:
    for number in range(50):
        draw(tmp_path / "same" / f"{number}.png", 5)
    assert counts(index.add([tmp_path / "same"])) == {"added": 1, "reused": 49}
    assert encoder.embedded == 1
    assert (index.vectors() == index.vectors()[0]).all()


def test_a_changed_image_is_embedded_again_under_its_id(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    index.add([folder])
    before = ids(index)
    later(draw(folder / "a/3.png", 200))
    assert counts(index.add([folder])) == {"updated": 1, "unchanged": 11}
    assert ids(index) == before
    assert vector(index, "3.png") == means(folder / "a/3.png")
    assert encoder.embedded == 13


def test_two_images_that_changed_places_are_not_embedded_again(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    index.add([folder])
    for here, there in (("0", "spare"), ("1", "0"), ("spare", "1")):
        (folder / f"a/{here}.png").rename(folder / f"a/{there}.png")
    later(folder / "a/0.png")
    assert counts(index.add([folder])) == {"updated": 2, "unchanged": 10}
    assert vector(index, "0.png") == means(folder / "a/0.png") != vector(index, "1.png")
    assert encoder.embedded == 12


class Blind(GridMean):
    """Gives vectors that are not finite for white pictures."""

    def encode(self, batch: np.ndarray) -> np.ndarray:
        vectors = super().encode(batch)
        vectors[(vectors == 1).all(axis=1)] = np.nan
        return vectors


def test_a_picture_whose_vector_is_not_finite_is_a_failure(index: ImageIndex, folder: Path) -> None:
    replace_encoder(index, Blind())
    for name in ("white.png", "white too.png"):
        draw(folder / "a" / name, (255, 255, 255))
    report = index.add([folder])
    assert counts(report) == {"added": 12, "failed": 2}
    assert {failure.stage for failure in report.failures} == {"embed"}
    assert np.isfinite(index.vectors()).all()
    assert counts(index.add([folder])) == {"failed": 2, "unchanged": 12}


def test_a_vector_too_large_for_the_storage_is_a_failure(folder: Path, tmp_path: Path) -> None:
    class Large(GridMean):
        def encode(self, batch: np.ndarray) -> np.ndarray:
            return super().encode(batch) * 70_000

    with ImageIndex.create(tmp_path / "half.imgindex", encoder=Large(), store="fp16") as index:
        draw(folder / "a/white.png", (255, 255, 255))
        report = index.add([folder])
        assert ("white.png", "embed") in {(Path(failure.path).name, failure.stage) for failure in report.failures}
        assert np.isfinite(index.vectors()).all()
