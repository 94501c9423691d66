"""A map is laid out once: images stay where they are on it, new ones are placed, and a damaged one is made again."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.gallery import kept_maps
from imgindex.gallery.kept_maps import find_map, map_state
from imgindex.gallery.map import Map


@pytest.fixture
def made(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The maps that were made, by their methods."""
    index.add(folder)
    methods: list[str] = []
    make = kept_maps.make_map

    def making(store: object, method: str, **options: object) -> object:
        methods.append(method)
        return make(store, method, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_maps, "make_map", making)
    return methods


def files(index: ImageIndex) -> list[str]:
    return sorted(path.name for path in (Path(index.path) / "search").glob("map-*"))


def test_a_map_is_made_once_and_found_by_another_process(index: ImageIndex, made: list[str]) -> None:
    assert map_state(index._store, "pca") is None
    first = index.map("pca")
    with ImageIndex.open(index.path) as other:
        again = other.map("pca")
    assert made == ["pca"]
    np.testing.assert_array_equal(again.xy, first.xy)
    np.testing.assert_array_equal(again.ids, first.ids)
    assert (again.paths, again.method, again.seed) == (first.paths, "pca", 42)
    index.map("tsne")
    index.change_tags([1], add="cat")
    index.map("pca")
    assert made == ["pca", "tsne"]
    assert [map_state(index._store, one) is not None for one in ("pca", "tsne", "umap")] == [True, True, False]


def at(found: Map, path: Path) -> list[float]:
    return found.xy[found.paths.index(str(path))].tolist()


def test_another_seed_makes_another_map(index: ImageIndex, made: list[str]) -> None:
    index.map("pca")
    assert index.map("pca", seed=7).seed == 7
    assert find_map(index._store, "pca") is None
    assert made == ["pca", "pca"]
    assert len(files(index)) == 1


def test_new_images_stand_among_their_nearest_and_the_others_stay(
    index: ImageIndex, folder: Path, made: list[str]
) -> None:
    before = index.map("pca")
    near = before.paths[3]
    with Image.open(near) as picture:  # the same picture in other bytes, with nearly the same vector
        picture.resize((70, 70)).save(folder / "a/new.png")
    index.add(folder)
    assert find_map(index._store, "pca") is None
    after = index.map("pca")
    assert len(after.ids) == 13
    assert at(after, folder / "a/new.png") == pytest.approx(at(before, Path(near)), abs=0.02)
    assert [at(after, Path(path)) for path in before.paths] == before.xy.tolist()
    state = map_state(index._store, "pca")
    assert (state.placed, state.removed, state.is_complete) == (1, 0, True)
    draw(folder / "a/new.png", (255, 255, 255), (80, 80))  # the same id, but another vector
    index.add(folder)
    moved = index.map("pca")
    assert at(moved, folder / "a/new.png") != at(after, folder / "a/new.png")
    assert map_state(index._store, "pca").placed == 1
    index.remove(folder / "a/new.png")
    index.remove(near)
    assert map_state(index._store, "pca").is_complete
    without = index.map("pca")
    assert [at(without, Path(path)) for path in without.paths] == [at(before, Path(path)) for path in without.paths]
    state = map_state(index._store, "pca")
    assert (len(without.ids), state.placed, state.removed) == (11, 0, 1)
    assert datetime.now(timezone.utc) - datetime.fromisoformat(state.made_at) < timedelta(hours=1)
    assert made == ["pca"]
    assert len(files(index)) == 1


def test_a_map_is_laid_out_anew_when_asked_and_when_a_fifth_has_changed(
    index: ImageIndex, folder: Path, made: list[str]
) -> None:
    index.map("pca")
    for number in (60, 61):
        draw(folder / f"a/{number}.png", number)
    index.add(folder)
    index.map("pca")
    assert made == ["pca"]
    index.map("pca", anew=True)
    assert made == ["pca", "pca"]
    assert map_state(index._store, "pca").placed == 0
    for number in range(70, 73):  # of 14 images
        draw(folder / f"a/{number}.png", number)
    index.add(folder)
    assert map_state(index._store, "pca") is None
    assert len(index.map("pca").ids) == 17
    assert made == ["pca"] * 3
    index.remove([path for path in index.paths() if "/a/7" in path or "/a/60" in path])
    assert map_state(index._store, "pca") is None


def test_few_images_are_laid_out_anew(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as few:
        for number in range(5):
            draw(tmp_path / f"few/{number}.png", number)
        few.add(tmp_path / "few")
        few.map()
        few.remove(tmp_path / "few/0.png")
        assert map_state(few._store, "pca") is None
        assert len(few.map().ids) == 4


def test_a_damaged_or_deleted_map_is_made_again(index: ImageIndex, made: list[str]) -> None:
    before = index.map("pca").xy.copy()
    (path,) = (Path(index.path) / "search").glob("map-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    np.testing.assert_array_equal(index.map("pca").xy, before)
    (path,) = (Path(index.path) / "search").glob("map-*")
    path.unlink()
    np.testing.assert_array_equal(index.map("pca").xy, before)
    assert made == ["pca"] * 3
    assert len(files(index)) == 1
    with ImageIndex.open(index.path) as other:
        assert other.compact() is not None
    assert files(index) == [path.name] or len(files(index)) == 1


def test_while_another_process_writes_a_map_is_made_and_not_kept(index: ImageIndex, made: list[str]) -> None:
    with ImageIndex.open(index.path) as other, other._store.writing():
        assert len(index.map("pca").ids) == 12
    assert files(index) == []
    index.map("pca")
    assert made == ["pca", "pca"]
    assert len(files(index)) == 1


def test_an_empty_index_has_an_empty_map(index: ImageIndex) -> None:
    assert index.map().xy.shape == (0, 2)
    assert files(index) == []
