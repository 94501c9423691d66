"""Labels by ImageID."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.errors import SampleMismatch, UsageError
from imgindex.reports.submission import image_ids, like, natural, plain, read_text


def test_natural_order_is_that_of_numbers_within_names() -> None:
    names = ["10", "9", "img2", "img10", "img1", "b", "007", "7"]
    assert sorted(names, key=natural) == ["007", "7", "9", "10", "b", "img1", "img2", "img10"]


def test_a_name_of_more_digits_than_python_makes_a_number_of_has_its_place_too() -> None:
    assert sorted(["x", "9" * 5000, "10"], key=natural) == ["10", "9" * 5000, "x"]


@given(st.permutations(["", "a", "a1", "a01", "1a", "٣", "²", "1", "01", "10", "\n", "a b"]))
def test_natural_order_is_one_order_whatever_order_the_names_come_in(names: list[str]) -> None:
    assert sorted(names, key=natural) == ["", "01", "1", "1a", "٣", "10", "\n", "a", "a01", "a1", "a b", "²"]


@pytest.mark.parametrize(("kind", "id"), [("stem", "b.c"), ("name", "b.c.jpg"), ("path", "a/b.c.jpg")])
def test_an_id_is_the_stem_the_name_or_the_path(kind: str, id: str) -> None:
    assert image_ids(["a/b.c.jpg"], kind) == {id: "a/b.c.jpg"}


def test_images_that_differ_by_ending_alone_are_told_apart_by_name() -> None:
    with pytest.raises(UsageError) as caught:
        image_ids(["a.jpg", "a.png"], "stem")
    assert "--id name" in caught.value.hint


def test_leading_zeros_survive() -> None:
    form = plain(image_ids(["x/007.jpg", "x/10.jpg"], "stem"))
    assert form.fill({"x/007.jpg": 1, "x/10.jpg": 0}) == [["007", "1"], ["10", "0"]]


def test_a_sample_keeps_other_columns_and_its_label_column_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text('ImageID,note,Label\n2,"a, b",0\n1,"c\nd",0\n')
    form = like(read_text(str(tmp_path / "s.csv")), {"1": "1.jpg", "2": "2.jpg"}, failed={})
    assert form.fill({"1.jpg": 4, "2.jpg": 3}) == [["2", "a, b", "3"], ["1", "c\nd", "4"]]


def test_a_sample_that_asks_for_a_failed_image_is_told_why_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageID,label\n1,0\n2,0\n")
    with pytest.raises(SampleMismatch) as caught:
        like(read_text(str(tmp_path / "s.csv")), {"1": "p/1.jpg"}, failed={"p/2.jpg": "truncated"})
    assert "'2'" in str(caught.value)
    assert "truncated" in caught.value.hint


def test_a_sample_in_utf_16_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes("ImageID,label\n1,0\n".encode("utf-16"))
    with pytest.raises(SampleMismatch):
        like(read_text(str(tmp_path / "s.csv")), {"1": "1.jpg"}, failed={})
