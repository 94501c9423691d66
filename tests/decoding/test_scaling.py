"""Scaling with weights of 16 bits: the numbers that it gives, by either library, and how near they are to Pillow's."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from imgindex.decoding import scaling
from imgindex.decoding.decode import Draft, decode
from imgindex.decoding.scaling import Numpy, Simd, scale
from imgindex.decoding.transforms import draft, prepare
from imgindex.recipe import RECIPES

needs_simd = pytest.mark.skipif(scaling.simd is None, reason="there is no cykooz_resizer here")


@pytest.fixture(params=[pytest.param("simd", marks=needs_simd), "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Scale by one library and then by the other."""
    if request.param == "numpy":
        monkeypatch.setattr(scaling, "simd", None)
    return str(request.param)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng((width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def reds(picture: Image.Image) -> list[list[int]]:
    rows: list[list[int]] = np.asarray(picture)[:, :, 0].tolist()
    return rows


def picture_of(rows: list[list[int]]) -> Image.Image:
    return Image.fromarray(np.repeat(np.array(rows, np.uint8)[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("before", "size", "after"),
    [
        ([[0, 0, 0, 255]], (2, 1), [[0, 109]]),  # 3/7 of 255
        ([[0], [0], [0], [255]], (1, 2), [[0], [109]]),
        ([[10, 20], [30, 40]], (1, 1), [[25]]),
        ([[0, 255]], (4, 1), [[0, 64, 191, 255]]),  # enlarged: 1/4 and 3/4
        ([[1, 2, 3]], (3, 1), [[1, 2, 3]]),
        ([[255] * 9] * 7, (2, 5), [[255] * 2] * 5),
    ],
)
def test_a_pixel_is_the_mean_of_those_under_its_triangle(
    before: list[list[int]], size: tuple[int, int], after: list[list[int]], library: str
) -> None:
    assert reds(scale(picture_of(before), size, "16-bit")) == after


def test_a_part_between_pixels_is_scaled(library: str) -> None:
    """From the middle of the first pixel to that of the third: halves of 0 and 100, then of 100 and 200."""
    assert reds(scale(picture_of([[0, 100, 200, 255]]), (2, 1), "16-bit", (0.5, 0, 2.5, 1))) == [[50, 150]]


@needs_simd
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [1, 2, 3, 37, 500, 4001, 70_000])
def test_both_libraries_give_the_same_bits(length: int, axis: int) -> None:
    rng = np.random.default_rng(length)
    size = (length, 3) if axis == 0 else (3, length)
    pixels = rng.integers(0, 256, 12 * length, dtype=np.uint8).tobytes()
    for count in (1, 2, 31, 224, 320, 601):
        for span in ((0.0, float(length)), (0.1 * length, 0.83 * length)):
            one, other = (
                library.pixels(library.scaled(library.image(pixels, size), axis, span, count))
                for library in (Simd(), Numpy())
            )
            assert one == other, (count, span)


@pytest.mark.parametrize(
    ("size", "wanted", "box"),
    [
        ((500, 375), (320, 240), None),
        ((250, 188), (160, 120), (0, 0, 250, 187.5)),
        ((90, 120), (240, 320), None),
        ((2000, 3), (320, 1), None),
    ],
)
def test_pixels_differ_from_pillows_by_one_at_most_and_seldom(
    size: tuple[int, int], wanted: tuple[int, int], box: scaling.Box | None, library: str
) -> None:
    picture = noise(*size)
    ours, pillows = (np.asarray(scale(picture, wanted, way, box)).astype(int) for way in ("16-bit", "pillow"))
    assert ours.shape == (wanted[1], wanted[0], 3)
    assert np.abs(ours - pillows).max() <= 1
    assert (ours != pillows).mean() < 0.01


def test_a_large_picture_is_scaled_in_parts_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    picture = noise(301, 203)
    whole = scale(picture, (64, 43), "16-bit", (0.5, 0.25, 300.5, 202.75))
    for pixels in (1, 301 * 20, 301 * 203 - 1):
        monkeypatch.setattr(scaling, "BAND_PIXELS", pixels)
        assert scale(picture, (64, 43), "16-bit", (0.5, 0.25, 300.5, 202.75)) == whole


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_pictures_are_scaled_as_their_recipe_says(recipe: object, library: str) -> None:
    recipe = replace(RECIPES[recipe.name], side=96)  # type: ignore[attr-defined]
    file = io.BytesIO()
    noise(200, 150).save(file, "PNG")
    picture = decode(file.getvalue(), draft=draft(recipe))
    if recipe.geometry == "letterbox":
        whole = decode(file.getvalue()).image
        assert picture.image == scale(whole, (96, 72), recipe.scaling)
        assert picture.image != scale(whole, (96, 72), "pillow") or recipe.scaling == "pillow"
        # Also where the picture was not scaled while it was decoded.
        assert np.array_equal(prepare(whole, recipe), prepare(picture.image, recipe))
    else:
        assert recipe.scaling == "pillow"


def test_a_draft_is_scaled_by_pillow_unless_it_says_otherwise() -> None:
    file = io.BytesIO()
    noise(200, 150).save(file, "PNG")
    whole = decode(file.getvalue()).image
    assert decode(file.getvalue(), draft=Draft(96)).image == scale(whole, (96, 72), "pillow")
    assert decode(file.getvalue(), draft=Draft(96, scaling="16-bit")).image == scale(whole, (96, 72), "16-bit")
