"""What is inside the borders of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from imgindex.curation.borders import content_box


def photo(size: tuple[int, int] = (120, 80)) -> Image.Image:
    cells = np.random.default_rng(5).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


def box(picture: Image.Image) -> tuple[int, int, int, int]:
    return content_box(np.asarray(picture))


def test_a_picture_without_a_border_is_whole() -> None:
    assert box(photo()) == (0, 0, 120, 80)


@pytest.mark.parametrize("colour", ["black", "white", (130, 90, 40)])
def test_a_border_of_one_colour_is_not_inside(colour: str) -> None:
    assert box(ImageOps.expand(photo(), (10, 5, 20, 15), colour)) == (10, 5, 130, 85)


def test_frames_within_frames_are_not_inside() -> None:
    assert box(ImageOps.expand(ImageOps.expand(photo(), 12, "white"), 6, "black")) == (18, 18, 138, 98)


def test_the_margins_of_a_screenshot_are_not_inside_though_there_is_a_clock_in_them() -> None:
    screen = Image.new("RGB", (120, 240), "black")
    screen.paste(photo(), (0, 80))
    ImageDraw.Draw(screen).rectangle((5, 4, 30, 10), fill="white")
    assert box(screen) == (0, 80, 120, 160)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (40, 30)])
def test_a_picture_of_one_colour_is_whole(size: tuple[int, int]) -> None:
    assert box(Image.new("RGB", size, "white")) == (0, 0, *size)
