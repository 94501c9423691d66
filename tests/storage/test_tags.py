"""Tags and metadata of images: they are counted by what changes, and a column has one spelling."""

from __future__ import annotations

import pytest
from catalogue_images import image, record

from imgindex.storage import tags
from imgindex.storage.catalogue import Catalogue


def put(catalogue: Catalogue, count: int) -> None:
    for number in range(count):
        record(catalogue, image(f"/home/ann/{number}.png", number), 1, number, 0)


@pytest.mark.parametrize("tag", ["", " cat", "cat ", "a,b", "a\nb", "a\0b", "x" * 101])
def test_a_tag_is_a_few_printable_words_without_a_comma(tag: str) -> None:
    assert not tags.is_tag(tag)
    assert tags.is_tag("a black cat")


def test_a_tag_is_put_on_once_and_counted_by_the_images_that_have_it(catalogue: Catalogue) -> None:
    put(catalogue, 3)
    assert tags.add_tag(catalogue, "cat", [1, 2]) == 2
    assert tags.add_tag(catalogue, "cat", [2, 3]) == 1
    assert tags.add_tag(catalogue, "ant", [2]) == 1
    assert tags.count_tags(catalogue) == {"cat": 3, "ant": 1}
    assert tags.tags_by_image(catalogue) == {1: ("cat",), 2: ("ant", "cat"), 3: ("cat",)}
    assert tags.remove_tag(catalogue, "cat", [3, 99]) == 1
    assert tags.count_tags(catalogue) == {"cat": 2, "ant": 1}


def test_metadata_keep_their_first_spelling_and_none_removes_a_value(catalogue: Catalogue) -> None:
    put(catalogue, 2)
    tags.set_metadata(catalogue, ["Age", "Place"], {1: [7, "Oslo"], 2: [8.5, None]})
    tags.set_metadata(catalogue, ["AGE"], {1: [9], 2: [None]})
    assert tags.metadata_keys(catalogue) == ["Age", "Place"]
    assert tags.metadata_by_image(catalogue) == {1: {"Age": 9, "Place": "Oslo"}}
