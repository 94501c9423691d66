"""A map is made once: it is kept in the index until the images change, and a damaged one is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import draw

from imgindex import ImageIndex
from imgindex.gallery import kept_maps
from imgindex.gallery.kept_maps import find_map, kept_methods


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
    assert kept_methods(index._store) == []
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
    assert kept_methods(index._store) == ["pca", "tsne"]


def test_another_seed_or_other_images_make_another_map(index: ImageIndex, folder: Path, made: list[str]) -> None:
    index.map("pca")
    assert index.map("pca", seed=7).seed == 7
    assert find_map(index._store, "pca") is None
    draw(folder / "a/new.png", 60)
    index.add(folder)
    assert len(index.map("pca", seed=7).ids) == 13
    draw(folder / "a/new.png", 61)  # the same ids, but another vector
    index.add(folder)
    assert len(index.map("pca", seed=7).ids) == 13
    index.remove(folder / "a/new.png")
    assert len(index.map("pca", seed=7).ids) == 12
    assert made == ["pca"] * 5
    assert len(files(index)) == 1


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
