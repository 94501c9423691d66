"""From picture to square: the whole picture with its proportions, or the article's crop pixel for pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from imgindex.decoding.sizes import shape_of
from imgindex.decoding.transforms import prepare
from imgindex.recipe import RECIPES

LETTERBOX = replace(RECIPES["vgg16-pool5"], side=64)
ARTICLE = RECIPES["article"]

Pixels = npt.NDArray[np.uint8]


def plain(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 90)) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng((width, height)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def box(pixels: Pixels, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what has that colour; everything in it has, nothing outside."""
    there = (pixels == colour).all(axis=-1)
    rows, columns = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    assert there[top:bottom, left:right].all()
    return int(left), int(top), int(right), int(bottom)


@pytest.mark.parametrize(
    ("size", "inside"),
    [
        ((640, 480), (0, 8, 64, 56)),
        ((480, 640), (8, 0, 56, 64)),
        ((32, 16), (0, 16, 64, 48)),
        ((64, 31), (0, 16, 64, 47)),
        ((500, 500), (0, 0, 64, 64)),
        ((1, 1), (0, 0, 64, 64)),
        ((1, 5000), (31, 0, 32, 64)),
        ((5000, 1), (0, 31, 64, 32)),
        ((3, 2), (0, 10, 64, 53)),
    ],
)
def test_the_letterbox_keeps_proportions_in_the_middle_of_white(
    size: tuple[int, int], inside: tuple[int, int, int, int]
) -> None:
    pixels = prepare(plain(*size), LETTERBOX)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert box(pixels, (200, 30, 90)) == inside
    left, top, right, bottom = inside
    outside = np.ones((64, 64), dtype=bool)
    outside[top:bottom, left:right] = False
    assert (pixels[outside] == 255).all()


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (97, 61), (16, 12)])
def test_the_letterbox_shows_the_picture_up_to_its_corners(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    corners = {(0, 0): (255, 0, 0), (0, 1): (0, 255, 0), (1, 0): (0, 0, 255), (1, 1): (0, 0, 0)}
    for (down, across), colour in corners.items():
        rows = slice(height // 2, None) if down else slice(height // 2)
        columns = slice(width // 2, None) if across else slice(width // 2)
        pixels[rows, columns] = colour
    square = prepare(Image.fromarray(pixels), LETTERBOX)
    wide, high = (round(length * 64 / max(size)) for length in size)
    left, top = (64 - wide) // 2, (64 - high) // 2
    for (down, across), colour in corners.items():
        assert tuple(square[top + down * (high - 1), left + across * (wide - 1)]) == colour


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    picture = noise(64, 64)
    assert np.array_equal(prepare(picture, LETTERBOX), np.asarray(picture))
    low = noise(64, 40)
    assert np.array_equal(prepare(low, LETTERBOX)[12:52], np.asarray(low))


def test_scaling_down_averages_instead_of_skipping_pixels() -> None:
    stripes = np.zeros((512, 512, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = prepare(Image.fromarray(stripes), LETTERBOX)
    assert np.abs(pixels[2:-2, 2:-2].astype(int) - 127).max() <= 3


def test_bgr_is_rgb_backwards() -> None:
    picture = noise(90, 70)
    rgb, bgr = prepare(picture, LETTERBOX), prepare(picture, replace(LETTERBOX, channels="bgr"))
    assert np.array_equal(bgr, rgb[:, :, ::-1])
    assert bgr.flags["C_CONTIGUOUS"]


SIZES = [
    (512, 512), (513, 513), (511, 511), (513, 512), (512, 511), (514, 515), (515, 514), (700, 301), (301, 700),
    (1, 1), (1, 2), (2, 3), (3, 1), (1, 5000), (5000, 1), (100, 77), (511, 900), (900, 511), (640, 480), (1023, 769),
    (448, 448), (513, 1), (1, 513), (525, 527),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_reduced_picture_keeps_its_shape_and_is_never_enlarged(size: tuple[int, int]) -> None:
    picture, recipe = noise(*size), replace(LETTERBOX, geometry="reduced", side=500)
    pixels = prepare(picture, recipe)
    assert pixels.shape == shape_of(recipe, *size)
    height, width, _ = pixels.shape
    if max(size) <= 500:
        assert np.array_equal(pixels, np.asarray(picture))
    else:
        assert max(width, height) == 500
        assert abs(width * size[1] / size[0] - height) <= max(1, size[1] / size[0])


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_articles_square_is_torchvisions_pixel_for_pixel(size: tuple[int, int]) -> None:
    from torchvision import transforms

    picture = noise(*size)
    article = transforms.Resize(448)(transforms.CenterCrop(512)(picture))
    assert np.array_equal(prepare(picture, replace(ARTICLE, channels="rgb")), np.asarray(article))


def test_a_very_long_picture_gets_no_border_of_its_whole_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take gigabytes."""
    bordered: list[tuple[int, int]] = []
    expand = ImageOps.expand

    def noted(picture: Image.Image, border: tuple[int, ...], fill: int) -> Image.Image:
        bordered.append(picture.size)
        return expand(picture, border, fill)

    monkeypatch.setattr(ImageOps, "expand", noted)
    assert prepare(plain(1_000_000, 1), ARTICLE).any()
    assert bordered == [(512, 1)]


def test_the_articles_square_is_bgr_with_black_around_small_pictures() -> None:
    pixels = prepare(plain(256, 512, (200, 30, 90)), ARTICLE)
    assert tuple(pixels[224, 224]) == (90, 30, 200)
    assert not pixels[:, :110].any()
    assert not pixels[:, -110:].any()
