"""Labels by ImageID."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.errors import SampleMismatch, UsageError
from imgindex.export.csv_input import read_text
from imgindex.export.submission import image_ids, natural_key, plain_submission, sample_submission


def test_numbers_within_names_are_ordered_by_value() -> None:
    names = ["10", "9", "img2", "img10", "img1", "b", "007", "7"]
    assert sorted(names, key=natural_key) == ["007", "7", "9", "10", "b", "img1", "img2", "img10"]


def test_a_number_that_python_refuses_to_convert_is_ordered_too() -> None:
    assert sorted(["x", "9" * 5000, "10"], key=natural_key) == ["10", "9" * 5000, "x"]


@given(st.permutations(["", "a", "a1", "a01", "1a", "٣", "²", "1", "01", "10", "\n", "a b"]))
def test_natural_order_does_not_depend_on_the_order_of_the_names(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == ["", "01", "1", "1a", "٣", "10", "\n", "a", "a01", "a1", "a b", "²"]


@pytest.mark.parametrize(("kind", "id"), [("stem", "b.c"), ("name", "b.c.jpg"), ("path", "a/b.c.jpg")])
def test_an_id_is_the_stem_the_name_or_the_path(kind: str, id: str) -> None:
    assert image_ids(["a/b.c.jpg"], kind) == {id: "a/b.c.jpg"}


def test_images_that_differ_by_their_ending_only_need_the_name_as_id() -> None:
    with pytest.raises(UsageError) as caught:
        image_ids(["a.jpg", "a.png"], "stem")
    assert "`id=name`" in caught.value.hint


def test_leading_zeros_survive() -> None:
    submission = plain_submission(image_ids(["x/007.jpg", "x/10.jpg"], "stem"))
    assert submission.fill({"x/007.jpg": 1, "x/10.jpg": 0}) == [["007", "1"], ["10", "0"]]


def test_a_sample_keeps_other_columns_and_its_label_column_is_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text('ImageID,note,Label\n2,"a, b",0\n1,"c\nd",0\n')
    submission = sample_submission(read_text(str(tmp_path / "s.csv")), {"1": "1.jpg", "2": "2.jpg"}, failed={})
    assert submission.fill({"1.jpg": 4, "2.jpg": 3}) == [["2", "a, b", "3"], ["1", "c\nd", "4"]]


def test_the_hint_names_why_an_image_of_the_sample_could_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ImageID,label\n1,0\n2,0\n")
    with pytest.raises(SampleMismatch) as caught:
        sample_submission(read_text(str(tmp_path / "s.csv")), {"1": "p/1.jpg"}, failed={"p/2.jpg": "truncated"})
    assert "'2'" in str(caught.value)
    assert "truncated" in caught.value.hint
