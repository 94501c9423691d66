"""File names: different from each other on every file system, and as short as that allows."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgindex.export.filenames import comparison_key, distinct_names, safe_name, unused_name


@given(
    paths=st.lists(st.lists(st.sampled_from(["a", "A", "a - a", "b", "x.jpg"]), min_size=1, max_size=4), max_size=30)
)
@settings(max_examples=200)
def test_all_images_of_a_group_get_different_names(paths: list[list[str]]) -> None:
    wanted = list(dict.fromkeys("/" + "/".join(parts) for parts in paths))
    taken: set[str] = set()
    chosen = [unused_name(name, taken) for name in distinct_names(wanted).values()]
    assert len(chosen) == len(wanted) == len({comparison_key(name) for name in chosen})
    assert all("/" not in name and len(os.fsencode(name)) <= 255 for name in chosen)


def test_files_of_one_name_get_as_few_folders_in_front_as_distinguish_them() -> None:
    paths = ["/p/paris/2020/a.jpg", "/p/rome/2020/a.jpg", "/p/rome/2020/b.jpg"]
    assert list(distinct_names(paths).values()) == ["paris - 2020 - a.jpg", "rome - 2020 - a.jpg", "b.jpg"]
    assert list(distinct_names(["/p/a.jpg", "/p/A.jpg"]).values()) == ["a.jpg", "A.jpg"]
    long = ["/" + "x" * 200 + f"/{folder}/" + "y" * 250 + "/a.jpg" for folder in "pq"]
    assert all(len(name) == 255 and name.endswith(" - a.jpg") for name in distinct_names(long).values())


@pytest.mark.parametrize(
    ("name", "safe"),
    [("a/b", "a_b"), ("..", "_."), ("", "_"), (".hidden", "_hidden"), (" a\tb ", "a_b"), ("é" * 200, "é" * 127)],
)
def test_a_safe_name_is_one_that_a_file_system_can_store(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(os.fsdecode(b"\xff")) == os.fsdecode(b"\xff")


def test_a_name_that_differs_only_by_case_or_by_the_form_of_an_accent_is_taken() -> None:
    taken: set[str] = set()
    assert [unused_name(name, taken) for name in ("é.jpg", "E\u0301.jpg", "é.jpg")] == [
        "é.jpg",
        "E\u0301 (2).jpg",
        "é (3).jpg",
    ]
