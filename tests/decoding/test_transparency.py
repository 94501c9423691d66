"""Transparency: a drawing is put on a background on which it can be seen."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from samples import SMOOTH, encoded, pixels

from imgindex.decoding.decode import decode


def drawing(colour: tuple[int, int, int], *, width: int = 20, side: int = 256, hidden: int = 0) -> Image.Image:
    """A circle on nothing; hidden: the grey stored below the transparent pixels."""
    image = Image.new("RGBA", (side, side), (hidden, hidden, hidden, 0))
    ImageDraw.Draw(image).ellipse((side // 5, side // 5, side - 40, side - 40), outline=(*colour, 255), width=width)
    return image


@pytest.mark.parametrize("hidden", [0, 128, 255])
@pytest.mark.parametrize("colour", [(255, 255, 255), (250, 250, 250), (240, 245, 230)])
def test_a_white_drawing_is_put_on_black(colour: tuple[int, int, int], hidden: int) -> None:
    found = pixels(encoded(drawing(colour, hidden=hidden)))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert (found == colour).all(axis=-1).any()


@pytest.mark.parametrize("colour", [(0, 0, 0), (128, 128, 128), (255, 0, 0), (255, 255, 0), (180, 220, 255)])
def test_other_drawings_are_put_on_white(colour: tuple[int, int, int]) -> None:
    found = pixels(encoded(drawing(colour)))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert (found == colour).all(axis=-1).any()


@pytest.mark.parametrize("side", [64, 256, 1000, 3000])
@pytest.mark.parametrize("shade", [0, 255])
def test_thin_lines_of_any_size_can_be_seen(side: int, shade: int) -> None:
    found = pixels(encoded(drawing((shade, shade, shade), width=1, side=side)))
    assert np.ptp(found) == 255


def test_a_white_drawing_with_an_outline_stays_on_white() -> None:
    image = drawing((255, 255, 255), width=60)
    ImageDraw.Draw(image).ellipse((45, 45, 222, 222), outline=(0, 0, 0, 255), width=6)
    assert pixels(encoded(image))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "GIF"])
def test_the_background_does_not_depend_on_the_format(format: str) -> None:
    options = {"WEBP": {"lossless": True, "exact": True}}.get(format, {})
    found = pixels(encoded(drawing((255, 255, 255)), format, **options))
    assert (found[0, 0].tolist(), found.max()) == ([0, 0, 0], 255)


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA"])
def test_every_mode_with_transparency_is_composed(mode: str) -> None:
    image = drawing((255, 255, 255)).convert(mode)
    if mode == "PA":
        pytest.importorskip("PIL.TiffImagePlugin")
        assert pixels(encoded(image, "TIFF")).max() == 255
    else:
        assert pixels(encoded(image))[0, 0].tolist() == [0, 0, 0]


def test_faint_white_is_seen_on_black_and_a_shadow_on_white() -> None:
    for shade, background in ((255, 0), (0, 255)):
        image = np.zeros((64, 64, 4), np.uint8)
        image[16:48, 16:48] = (shade, shade, shade, 90)
        assert pixels(encoded(image))[0, 0, 0] == background


def test_a_transparent_colour_of_a_grey_picture_counts() -> None:
    grey = np.full((64, 64), 7, np.uint8)
    grey[10:50, 10:50] = 255
    assert pixels(encoded(grey, transparency=7))[0, 0].tolist() == [0, 0, 0]
    wide = grey.astype(np.uint16) * 257
    assert pixels(encoded(wide, transparency=7 * 257))[0, 0].tolist() == [0, 0, 0]


def test_both_flattenings_can_be_asked_for() -> None:
    data = encoded(drawing((255, 0, 0)))
    for alpha, shade in (("white", 255), ("black", 0)):
        found = pixels(data, alpha=alpha)
        assert found[0, 0].tolist() == [shade] * 3
        flattened = Image.new("RGB", (256, 256), alpha)
        flattened.paste(drawing((255, 0, 0)), mask=drawing((255, 0, 0)))
        assert np.array_equal(found, pixels(encoded(flattened)))


def test_a_picture_says_whether_it_is_transparent() -> None:
    assert decode(encoded(drawing((9, 9, 9)))).is_transparent
    opaque = Image.fromarray(SMOOTH).convert("RGBA")
    assert not decode(encoded(opaque)).is_transparent
    assert np.array_equal(pixels(encoded(opaque)), SMOOTH)
    assert not decode(encoded(SMOOTH, "JPEG")).is_transparent


def test_nothing_but_transparency_is_white() -> None:
    assert pixels(encoded(Image.new("RGBA", (40, 30)))).min() == 255
