"""The maps of a server: at hand while the images are the same, also where the index cannot keep them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.gallery.map import Map
from imgindex.server.map_groups import Groups
from imgindex.server.maps import Maps, encoded


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[ImageIndex]:
    for number in range(12):
        draw(tmp_path / "p" / f"{number}.png", number)
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        index.add(tmp_path / "p")
        yield index


def digest(index: ImageIndex) -> str:
    return index._store.catalogue.images_digest()


def state(maps: Maps, index: ImageIndex) -> dict[str, Any]:
    return next(one for one in maps.states(index) if one["method"] == "pca")


def make(maps: Maps, index: ImageIndex) -> Map:
    return maps.make(index, "pca", seed=42, anew=False, on_progress=lambda progress: None)


def test_a_map_is_at_hand_until_an_image_has_to_be_placed(opened: ImageIndex, tmp_path: Path) -> None:
    maps = Maps()
    assert maps.find(opened, "pca", digest(opened)) is None
    assert state(maps, opened) == {"method": "pca", "is_made": False, "made_at": None, "placed": 0, "removed": 0}
    made = make(maps, opened)
    assert maps.find(opened, "pca", digest(opened)) is made
    assert len(Maps().find(opened, "pca", digest(opened)).ids) == 12
    opened.remove(tmp_path / "p" / "0.png")
    assert len(maps.find(opened, "pca", digest(opened)).ids) == 11
    draw(tmp_path / "p" / "new.png", 40)
    opened.add(tmp_path / "p" / "new.png")
    assert maps.find(opened, "pca", digest(opened)) is None
    assert state(maps, opened)["is_made"]
    make(maps, opened)
    assert (state(maps, opened)["placed"], state(maps, opened)["removed"]) == (1, 1)


def test_a_map_that_cannot_be_kept_in_the_index_is_kept_in_memory(opened: ImageIndex) -> None:
    maps = Maps()
    with ImageIndex.open(opened.path) as other, other._store.writing():
        made = make(maps, opened)
    assert Maps().find(opened, "pca", digest(opened)) is None
    assert maps.find(opened, "pca", digest(opened)) is made
    assert (state(maps, opened)["is_made"], state(maps, opened)["made_at"]) == (True, None)


def test_a_map_is_numbers_and_then_its_groups() -> None:
    xy = np.array([[0, 0], [4, 1], [2, 3]], np.float32)
    groups = Groups(np.array([0, -1, 1]), [{"name": "a"}, {"name": "b"}])
    data = encoded(Map(np.array([3, 5, 9]), ["", "", ""], xy, "pca", 42), groups)
    assert np.frombuffer(data, "<u4", 4).tolist() == [3, 3, 5, 9]
    assert np.frombuffer(data, "<u2", 3, 16).tolist() == [0, 65535, 32768]
    assert np.frombuffer(data, "<i2", 3, 28).tolist() == [0, -1, 1]
    assert json.loads(data[34:]) == groups.all
    assert (
        encoded(Map(np.array([], np.int64), [], xy[:0], "pca", 42), Groups(np.array([], np.int64), []))
        == bytes(4) + b"[]"
    )
