"""Paths as the catalogue stores them, and as the command line displays them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.storage.paths import PathMap, display_path, is_under, under

# Any bytes that a file name may consist of.
names = st.binary(min_size=1, max_size=12).filter(
    lambda name: not set(name) & set(b"\0/") and name not in (b".", b"..")
)


@given(st.lists(names, min_size=1, max_size=4))
def test_any_path_below_the_index_s_folder_or_elsewhere_comes_back_as_it_was(parts: list[bytes]) -> None:
    paths = PathMap("/home/ann/photos/.imgindex")
    name = os.fsdecode(b"/".join(parts))
    for path in (f"/home/ann/photos/{name}", f"/mnt/{name}"):
        assert paths.absolute(paths.stored(path)) == path


def test_below_the_index_s_folder_paths_are_relative_and_so_move_with_it() -> None:
    assert PathMap("/old/place/.imgindex").stored("/old/place/a/0.jpg") == "a/0.jpg"
    assert PathMap("/new/.imgindex").absolute("a/0.jpg") == "/new/a/0.jpg"


def test_elsewhere_paths_are_absolute() -> None:
    assert PathMap("/home/ann/.imgindex").stored("/mnt/0.jpg") == "/mnt/0.jpg"
    assert PathMap("/home/ann/.imgindex").stored("/home/anna/0.jpg") == "/home/anna/0.jpg"


def test_an_index_in_the_root_folder_knows_every_path() -> None:
    paths = PathMap("/.imgindex")
    assert paths.stored("/mnt/0.jpg") == "mnt/0.jpg"
    assert paths.absolute("mnt/0.jpg") == "/mnt/0.jpg"


def test_the_index_s_folder_itself_can_be_stored() -> None:
    paths = PathMap("/home/ann/.imgindex")
    assert paths.absolute(paths.stored("/home/ann")) == "/home/ann"


def test_a_name_that_is_not_utf_8_is_stored_as_its_bytes() -> None:
    assert PathMap("/i/.imgindex").stored("/i/\udcff.jpg") == b"\xff.jpg"


def test_a_path_through_a_link_to_the_index_s_folder_is_the_same_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    paths = PathMap(os.fspath(tmp_path / "link" / ".imgindex"))
    assert paths.stored(f"{tmp_path}/real/0.jpg") == paths.stored(f"{tmp_path}/link/0.jpg") == "0.jpg"


@pytest.mark.parametrize(
    ("path", "folder", "under"),
    [
        ("/a/b", "/a", True),
        ("/a", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a/b", "/", True),
        ("/a/b", "/a/", True),
    ],
)
def test_what_lies_under_a_folder(path: str, folder: str, under: bool) -> None:
    assert is_under(path, folder) is under


def test_paths_are_displayed_relative_below_a_folder_and_absolute_elsewhere() -> None:
    assert display_path("/here/a/0.jpg", "/here") == "a/0.jpg"
    assert display_path("/hereafter/0.jpg", "/here") == "/hereafter/0.jpg"
    assert display_path("/a/0.jpg", "/") == "a/0.jpg"
    assert display_path("/here", "/here") == "/here"
    assert display_path("/here/a/0.jpg", None) == "/here/a/0.jpg"


@given(st.lists(st.text("ab/", max_size=4)), st.text("ab/", max_size=8))
def test_being_under_any_of_many_places_is_being_under_one_of_them(places: list[str], name: str) -> None:
    roots, path = [os.path.abspath(f"/{place}") for place in places], os.path.abspath(f"/{name}")
    assert under(roots)(path) == any(is_under(path, root) for root in roots)
