"""Numbers as text."""

from __future__ import annotations

from imgindex.gallery.phrases import count


def test_a_noun_is_in_the_singular_only_for_one() -> None:
    assert [count(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
