"""Which names are those of images, and which ones a glob leaves out."""

from __future__ import annotations

import pytest

from imgindex.sources.selection import Selection, is_hidden


@pytest.mark.parametrize(
    ("name", "image"), [("a.JPG", True), (".jpg", False), ("a.txt", False), ("a", False), ("a.nef", True)]
)
def test_an_image_is_known_by_its_ending(name: str, image: bool) -> None:
    assert Selection(further_endings={".nef"}).has_image_ending(name) is image


def test_a_glob_matches_a_name_or_a_path_from_the_root() -> None:
    selection = Selection(exclude=["small/", "b/*.png"])
    found = [selection.is_excluded(*entry) for entry in (("small", "a/"), ("1.png", "b/"), ("1.png", "c/"))]
    assert found == [True, True, False]
    assert not Selection().is_excluded("small", "")


def test_names_that_begin_with_a_dot_are_hidden() -> None:
    assert [is_hidden(name) for name in (".a", "a.")] == [True, False]
