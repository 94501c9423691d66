"""Numbers and paths as text."""

from __future__ import annotations

from imgindex.gallery.phrases import count, percent, rank_among_images, rank_among_pairs


def test_only_0_and_1_are_written_as_0_and_100_percent() -> None:
    assert percent(0.5) == "50.0\u00a0%"
    assert percent(0.99999) == "99.99\u00a0%"
    assert percent(0.00001) == "0.01\u00a0%"
    assert (percent(1.0), percent(0.0)) == ("100\u00a0%", "0\u00a0%")
    assert rank_among_pairs(0.992) == "nearer than 99.20\u00a0% of all pairs"
    assert rank_among_pairs(0.25) == "farther than 75.0\u00a0% of all pairs"
    assert rank_among_pairs(1.0) == "nearer than any other pair"
    assert rank_among_pairs(0.0) == "farther than any other pair"
    assert [rank_among_images(share) for share in (0.0, 0.25, 0.75, 1.0)] == [
        "farthest of all",
        "farther than 75.0\u00a0%",
        "nearer than 75.0\u00a0%",
        "nearest of all",
    ]
    assert rank_among_pairs(None) == ""


def test_a_noun_is_in_the_singular_only_for_one() -> None:
    assert [count(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
