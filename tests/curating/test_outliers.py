"""Outliers: the images least like any other, by their nearest other image; and what `each_nearest` gives for all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import GRID_RECIPE, GridMean, Run, draw

import imgindex.curating.neighbours
import imgindex.searching
from imgindex import ImageIndex
from imgindex.curating.neighbours import each_nearest
from imgindex.errors import UsageError


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[ImageIndex]:
    """Twelve shades of grey, a red one far from them, a green one farther; and one grey twice."""
    for number in range(12):
        draw(tmp_path / "p" / f"{number}.png", (100 + number, 100 + number, 100 + number))
    draw(tmp_path / "p/3 again.png", (103, 103, 103), (64, 64))
    draw(tmp_path / "p/red.png", (250, 100, 100))
    draw(tmp_path / "p/green.png", (0, 255, 0))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "p"])
        yield index


def test_the_least_like_any_other_comes_first_with_what_is_nearest(gallery: ImageIndex) -> None:
    first, second, third, *_ = gallery.outliers(n=5)
    assert (Path(first.path).name, Path(second.path).name) == ("green.png", "red.png")
    assert (first.rank, second.rank) == (1, 2)
    assert Path(first.nearest).name == "0.png"
    vectors = dict(zip(gallery.paths(), gallery.vectors(), strict=True))
    assert first.distance == pytest.approx(np.linalg.norm(vectors[first.path] - vectors[first.nearest]), rel=1e-5)
    assert first.times > second.times > 10 > third.times == pytest.approx(1, rel=0.01)
    assert len(gallery.outliers(n=100)) == 15
    assert [Path(one.path).name for one in gallery.outliers(n=100)[-2:]] == ["3 again.png", "3.png"]


def test_hidden_images_are_neither_outliers_nor_nearest(gallery: ImageIndex) -> None:
    gallery.remove([path for path in gallery.paths() if path.endswith("green.png")])
    assert Path(gallery.outliers(n=1)[0].path).name == "red.png"


def test_few_images_and_wrong_numbers(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        assert index.outliers() == []
        draw(tmp_path / "p/1.png", 1)
        index.add([tmp_path / "p"])
        assert index.outliers() == []
        draw(tmp_path / "p/2.png", (37, 101, 211), (64, 64))
        index.add([tmp_path / "p"])
        assert [(one.distance, one.times) for one in index.outliers()] == [(0, 0), (0, 0)]
        with pytest.raises(UsageError, match="at least one"):
            index.outliers(n=0)


@pytest.mark.parametrize("rows", [10, 10**6])
def test_each_image_gets_its_nearest_others(gallery: ImageIndex, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.curating.neighbours, "QUERIES", 4)
    monkeypatch.setattr(imgindex.searching, "EXACT_ROWS", rows)
    vectors, ids = gallery.vectors(), gallery.ids()
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(distances, np.inf)
    seen = []
    for some, near in each_nearest(gallery._store, 20):
        assert near.ids.shape == (len(some), 20)
        assert (near.ids[:, 14:] == -1).all()
        for id, found in zip(some, near.distances, strict=True):
            np.testing.assert_allclose(found[:14], np.sort(distances[ids == id][0])[:14], rtol=1e-5, atol=1e-6)
        assert not (near.ids == some[:, None]).any()
        seen += some.tolist()
    assert sorted(seen) == ids.tolist()


def test_the_command_says_it_in_a_table_and_in_json(gallery: ImageIndex, run: Run) -> None:
    result = run("outliers", "-n", "2", "--index", gallery.path)
    assert result.returncode == 0
    assert result.stdout.split()[:6] == ["rank", "distance", "times", "path", "nearest", "id"]
    found = json.loads(run("outliers", "-n", "2", "--json", "--index", gallery.path).stdout)
    assert [(one["rank"], Path(one["path"]).name) for one in found] == [(1, "green.png"), (2, "red.png")]
    assert run("outliers", "-n", "2", "--format", "paths", "--index", gallery.path).stdout.count("\n") == 2


def test_what_is_odd_is_told_from_facts(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "p").mkdir()
    for number in range(60):
        noise = rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "p" / f"{number}.png")
    tiles = rng.integers(0, 256, (2, 20, 3), dtype=np.uint8)
    Image.fromarray(tiles.repeat(20, axis=0).repeat(20, axis=1)).save(tmp_path / "p/wide.jpg")
    Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "p/small.png")
    draw(tmp_path / "p/plain.png", (200, 30, 30), (120, 100))
    draw(tmp_path / "p/dark.png", (5, 5, 5), (120, 100))
    draw(tmp_path / "p/gone.png", (30, 200, 30), (120, 100))
    with ImageIndex.create(tmp_path / "it.imgindex", recipe=GRID_RECIPE) as index:
        index.embedder = GridMean()
        index.add([tmp_path / "p"])
        (tmp_path / "p/gone.png").unlink()
        reasons = {Path(one.path).name: one.reason for one in index.outliers(n=100)}
    assert reasons["wide.jpg"].split("; ")[1:] == ["10.0 times as wide as high", "the only JPEG"]
    assert reasons["small.png"].split("; ")[1:] == ["only 12 × 12 pixels, 83 times fewer than usual"]
    assert reasons["plain.png"].split("; ")[1:] == ["nearly one colour"]
    assert reasons["dark.png"].split("; ")[1:] == ["nearly one colour"]
    assert reasons["gone.png"].split("; ")[1:] == ["cannot be read now: No such file or directory"]
    assert reasons["0.png"].endswith("times as far from its nearest as half of the images are")


def test_a_pair_apart_from_the_rest_and_a_copy_are_told(gallery: ImageIndex, tmp_path: Path) -> None:
    draw(tmp_path / "p/green too.png", (0, 250, 0))
    gallery.add([tmp_path / "p"])
    reasons = {Path(one.path).name: one.reason for one in gallery.outliers(n=100)}
    assert "a pair apart from the rest" in reasons["green.png"]
    assert "a pair" not in reasons["red.png"]
    assert reasons["3.png"].startswith("another has the same vector")
