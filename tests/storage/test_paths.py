"""Paths as the catalogue stores them, and as the command line displays them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.errors import PathNotFound, UsageError
from imgindex.storage.paths import PathMap, RealPaths, absolute, display_path, is_under, real_path, under

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


PIECES = st.sampled_from(["a", "b.jpg", ".hidden", "c d", "\udcff", "é"])
ADDRESSES = st.sampled_from(["s3://bucket/a.jpg", "https://example.org/b.jpg"])
PLACES = st.sampled_from(["/home/ann", "/home/ann/photos", "/home/anna", ""])


@given(
    st.lists(st.builds(lambda place, pieces: "/".join([place, *pieces]), PLACES, st.lists(PIECES, min_size=1)))
    .flatmap(lambda paths: st.lists(st.sampled_from([*paths, "/home/ann"]) | ADDRESSES)),
    st.sampled_from(["/home/ann/.imgindex", "/.imgindex", "/home/.ann/.imgindex"]),
)  # fmt: skip
def test_many_paths_become_what_each_of_them_becomes(paths: list[str], index: str) -> None:
    of = PathMap(index)
    stored = [of.stored(path) for path in paths]
    joined = b"\0".join(map(os.fsencode, stored))
    assert of.join_stored(paths) == joined
    assert of.all_absolute(stored) == [of.absolute(path) for path in stored]
    if paths:
        assert of.split_absolute(joined) == [of.absolute(path) for path in stored]


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


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a home folder `home` and a file `a.jpg`."""
    (tmp_path / "home").mkdir()
    (tmp_path / "a.jpg").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("home//../a.jpg", "a.jpg"),
        ("gone/../a.jpg", "a.jpg"),
        (".", ""),
        ("./", ""),
        ("home/", "home"),
        ("~", "home"),
        ("~/b.jpg", "home/b.jpg"),
        ("~nobody-of-this-name/b.jpg", "~nobody-of-this-name/b.jpg"),
        ("./~/b.jpg", "~/b.jpg"),
        ("b/~", "b/~"),
        ("-", "-"),
        ("@file", "@file"),
        (" a.jpg ", " a.jpg "),
        ("a.jpg\r", "a.jpg\r"),
        ("\udcff.jpg", "\udcff.jpg"),
    ],
)
def test_a_path_becomes_absolute_as_the_system_would_read_it(here: Path, given: str, meant: str) -> None:
    assert absolute(given) == os.path.join(here, meant).rstrip("/")


def test_paths_may_be_path_objects_and_two_leading_slashes_are_one(here: Path) -> None:
    assert absolute(Path("a.jpg")) == f"{here}/a.jpg"
    assert absolute(f"/{here}//a.jpg") == absolute(f"//{here}/a.jpg") == f"{here}/a.jpg"
    assert absolute("//") == absolute("/..") == "/"


def test_the_home_of_a_user_is_found_by_its_name() -> None:
    assert absolute("~root/a.jpg") == os.path.expanduser("~root/a.jpg") != "~root/a.jpg"


def test_a_file_whose_name_begins_with_a_tilde_is_meant_if_it_is_there(here: Path) -> None:
    (here / "~").mkdir()
    (here / "~/a.jpg").touch()
    (here / "~root").touch()
    assert absolute("~/a.jpg") == f"{here}/~/a.jpg"
    assert absolute("~root") == f"{here}/~root"
    assert absolute("~/b.jpg") == f"{here}/home/b.jpg"


def test_the_parent_of_a_link_is_that_of_its_target(here: Path) -> None:
    (here / "x/y").mkdir(parents=True)
    (here / "x/b").touch()
    (here / "b").touch()
    (here / "link").symlink_to("x/y")
    (here / "deep").symlink_to("link")
    for path in ("link/../b", "./home/../link/../b", "deep/../b", f"{here}/link/./../b"):
        assert absolute(path) == f"{here}/x/b"
        assert os.path.samefile(absolute(path), path)
    assert absolute("link/b") == f"{here}/link/b", "a link stays in the path"


@pytest.mark.parametrize("path", ["", b"a.jpg", b""])
def test_an_empty_path_and_bytes_are_refused(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        absolute(path)
    assert caught.value.hint


NFC, NFD = (unicodedata.normalize(form, "\u00e9t\u00e9") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("on_disk", "given"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
def test_a_name_is_found_in_either_unicode_form(here: Path, on_disk: str, given: str) -> None:
    assert absolute(f"{given}/{given}.jpg") == f"{here}/{given}/{given}.jpg", "it is not there yet"
    (here / on_disk).mkdir()
    (here / on_disk / f"{on_disk}.jpg").touch()
    assert absolute(f"{given}/{given}.jpg") == f"{here}/{on_disk}/{on_disk}.jpg"
    assert absolute(f"{given}/{given} is gone.jpg") == f"{here}/{on_disk}/{given} is gone.jpg"


def test_of_two_names_that_differ_only_in_their_unicode_form_each_is_itself(here: Path) -> None:
    for name in (NFC, NFD):
        (here / name).touch()
    assert absolute(NFC) == f"{here}/{NFC}"
    assert absolute(NFD) == f"{here}/{NFD}"
    with pytest.raises(PathNotFound) as caught:
        absolute("\u00e9te\u0301")
    assert ascii(NFC) in str(caught.value)
    assert ascii(NFD) in str(caught.value)


def test_the_real_path_of_a_file_is_found_through_links_of_its_folder_and_its_own(here: Path) -> None:
    (here / "folder").symlink_to("home")
    (here / "home/link.jpg").symlink_to("../a.jpg")
    (here / "home/loop.jpg").symlink_to("loop.jpg")
    reals = RealPaths()
    for path in ("a.jpg", "folder/b.jpg", "folder/link.jpg", "home/link.jpg", "folder/loop.jpg", "gone/c.jpg"):
        assert reals.of(f"{here}/{path}") == real_path(f"{here}/{path}") == os.path.realpath(here / path)
    assert real_path("/nul\0.jpg") == "/nul\0.jpg"
