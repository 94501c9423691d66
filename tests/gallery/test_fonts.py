"""Names in any script are drawn: letters where a font has them, and else boxes by which they can be told apart."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from imgindex.gallery import fonts

# Private characters: no font of a system has them.
UNKNOWN, OTHER = "\U000f1234", "\U000f4321"
NAMES = (
    "日本語.jpg",
    "🐈.png",
    "חתול.jpg",
    "قطة.jpg",
    "cafe\u0301.jpg",
    "한국어.jpg",
    "ไทย.jpg",
    "हिन्दी.jpg",
    "❤\ufe0f.png",
)


def drawn(text: str, size: int = 12) -> np.ndarray:
    paper = Image.new("RGB", (420, 30), "white")
    fonts.draw(paper, (4, 4), text, (0, 0, 0), size)
    return np.asarray(paper)


@pytest.fixture
def without_fonts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine that has only the font of Pillow."""
    caches = (fonts._first, fonts._files, fonts._file_of, fonts._runs)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_wide_as_it_was_measured(name: str) -> None:
    columns = np.flatnonzero((drawn(name, 18) < 200).any(axis=(0, 2)))
    assert len(columns)
    assert columns[-1] - 4 <= fonts.length(name, 18) + 2
    assert columns[-1] - 4 >= fonts.length(name, 18) - 6


@pytest.mark.parametrize("size", [12, 18])
def test_characters_that_no_font_has_are_boxes_that_differ(size: int) -> None:
    assert fonts.missing(f"a{UNKNOWN}.jpg") == {UNKNOWN}
    assert fonts.missing("a plain name.jpg") == set()
    assert (drawn(f"{UNKNOWN}.jpg", size) != drawn(f"{OTHER}.jpg", size)).any()
    # A font draws the same empty box for both.
    font = ImageFont.truetype(fonts._first(), size) if fonts._first() else ImageFont.load_default(size)
    assert bytes(font.getmask(UNKNOWN)) == bytes(font.getmask(OTHER))


def test_without_fonts_names_in_any_script_still_differ(without_fonts: None) -> None:
    assert fonts.missing("plain.jpg") == set()
    names = ["日本語.jpg", "日本話.jpg", "🐈.png", "🐕.png", "חתול.jpg", "קטול.jpg"]
    assert all(fonts.missing(name) for name in names)
    assert len({drawn(name).tobytes() for name in names}) == len(names)


def test_text_from_right_to_left_is_drawn_so_and_the_ending_stays_at_the_end() -> None:
    (first, is_leftward), (second, _) = fonts._by_direction("חתול 12.jpg")
    assert (first, is_leftward, second) == ("חתול 12", True, ".jpg")
    assert [part for part, _ in fonts._by_direction("a/חתול גדול.jpg")] == ["a/", "חתול גדול", ".jpg"]
    if fonts.missing("חתול"):
        pytest.skip("no font of this machine has Hebrew letters")
    # The first letter is at the right of the last one.
    width = round(fonts.length("ל", 18))
    np.testing.assert_array_equal(drawn("חתול.jpg", 18)[:, 4 : width + 2], drawn("ל", 18)[:, 4 : width + 2])


def test_without_the_library_for_scripts_letters_are_in_their_order() -> None:
    font = ImageFont.load_default(12)
    run = fonts._Run("חתול", "", True)
    assert fonts._ordered(run, font) == "לותח"
    assert fonts._direction(run, font) is None


def test_an_accent_is_the_same_in_both_forms() -> None:
    composed = unicodedata.normalize("NFC", "cafe\u0301.jpg")
    np.testing.assert_array_equal(drawn(composed), drawn("cafe\u0301.jpg"))
    assert fonts._letters("e\u0301a") == ["e\u0301", "a"]


def test_texts_are_shortened_in_their_middle_and_broken_at_marks() -> None:
    name = "IMG_20240611_holiday_in_the_mountains_0001_small.jpg"
    shortened = fonts.fitting(name, 160, 12)
    assert fonts.length(shortened, 12) <= 160
    assert shortened.startswith("IMG_2024")
    assert shortened.endswith("small.jpg")
    assert fonts.fitting("short.jpg", 160, 12) == "short.jpg"
    assert fonts.lines("gc-leaningTowerOfPisa.webp", 160, 12) == ["gc-leaningTowerOfPisa", ".webp"]
    for line in fonts.lines("日本語の長い名前" * 9, 160, 12):
        assert fonts.length(line, 12) <= 160


def test_the_characters_of_a_font_are_read_from_its_table(tmp_path: Path) -> None:
    path = fonts._first()
    if not path:
        pytest.skip(f"{fonts.FIRST} is not installed")
    font = ImageFont.truetype(path, 16)
    nothing = bytes(font.getmask("\uffff"))
    for char in "aé€Ж语🐈א":
        assert fonts._has(path, char) == (bytes(font.getmask(char)) != nothing), char
    broken = tmp_path / "broken.ttf"
    for data in (b"", b"OTTO\x00\x09", os.urandom(400), b"ttcf" + b"\xff" * 30):
        broken.write_bytes(data)
        fonts._characters.cache_clear()
        assert not fonts._has(str(broken), "a")
