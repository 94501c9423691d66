"""Addresses among paths: they stay as they are, wherever the index is and whatever this machine has."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgindex import ImageIndex
from imgindex.errors import PathNotFound, UsageError
from imgindex.storage.paths import PathMap, RealPaths, absolute, display_path, is_under, joined, real_path, under

ADDRESSES = ["s3://bucket/a/b.jpg", "s3://bucket", "https://example.org/a.jpg?b=1", "file:///home/a.jpg"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("index", ["/x.imgindex", "/home/me/x.imgindex"])
def test_an_address_is_stored_as_it_is(address: str, index: str) -> None:
    paths = PathMap(index)
    assert paths.stored(address) == address
    assert paths.absolute(address) == paths.canonical(address) == address
    assert paths.stored_real(address, real_path(address)) is None


def test_an_address_whose_bytes_are_not_utf_8_comes_back_as_it_was() -> None:
    paths = PathMap("/x.imgindex")
    assert paths.stored("s3://bucket/\udcff.jpg") == b"s3://bucket/\xff.jpg"
    assert paths.absolute(b"s3://bucket/\xff.jpg") == "s3://bucket/\udcff.jpg"


def test_a_folder_of_this_machine_may_look_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    paths = PathMap(str(tmp_path / "x.imgindex"))
    stored = paths.stored(absolute("./s3://bucket/a.jpg"))
    assert stored == "s3:/bucket/a.jpg"
    assert paths.absolute(stored) == f"{tmp_path}/s3:/bucket/a.jpg"
    assert absolute("s3://bucket/a.jpg") == "s3://bucket/a.jpg"


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_not_looked_for_on_this_machine(address: str) -> None:
    assert (
        absolute(address) == real_path(address) == RealPaths().of(address) == RealPaths().of_entry(address) == address
    )
    assert joined("/home", address) == address
    assert display_path(address, "/") == address


@pytest.mark.parametrize(
    ("address", "place", "expected"),
    [
        ("s3://bucket/a/b.jpg", "s3://bucket/a", True),
        ("s3://bucket/a/b.jpg", "s3://bucket", True),
        ("s3://bucket/ab.jpg", "s3://bucket/a", False),
        ("s3://bucket/a.jpg", "/", False),
        ("s3://bucket", "/", False),
        ("/s3:/bucket/a.jpg", "s3://bucket", False),
        ("https://example.org/a.jpg", "https://example.org/", True),
        ("https://example.org/a.jpg", "https://example", False),
        ("file:///home/a.jpg", "/home", False),
        ("s3://other/a.jpg", "s3://bucket", False),
    ],
)
def test_what_lies_below_an_address(address: str, place: str, expected: bool) -> None:
    assert is_under(address, place) == expected
    test = under([place])
    assert [test(address), test(address)] == [expected, expected]


def test_the_root_folder_contains_no_address(index: ImageIndex, folder: Path) -> None:
    pytest.importorskip("obstore")
    index.add(f"file://{folder}/a")
    with pytest.raises(PathNotFound):
        index.remove("/")
    assert len(index.remove(f"file://{folder}")) == 6


def test_an_index_and_what_is_written_lie_on_this_machine(index: ImageIndex) -> None:
    for call in (ImageIndex.create, ImageIndex.open, ImageIndex.repair, index.export):
        with pytest.raises(UsageError, match="only images can be there"):
            call("s3://bucket/it.imgindex")


def test_two_forms_of_an_accent_are_two_objects(index: ImageIndex, folder: Path) -> None:
    pytest.importorskip("obstore")
    composed, decomposed = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"
    (folder / "a" / "0.png").rename(folder / f"{composed}.png")
    (folder / "a" / "1.png").rename(folder / f"{decomposed}.png")
    roots = [f"file://{folder}/{name}.png" for name in (composed, decomposed)]
    assert index.add(roots).added == 2
    assert index.add(roots).unchanged == 2
    assert [image.path for image in index.remove(roots[1])] == [roots[1]]
