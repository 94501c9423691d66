"""Perceptual hashes: near for copies, far for other pictures, permuted for turned ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from textures import encoded, textured

from imgindex.curation.rotations import ALL
from imgindex.decoding import perceptual_hash


def codes(picture: Image.Image) -> np.ndarray:
    parsed = perceptual_hash.parse(perceptual_hash.hashes(picture))
    assert parsed is not None
    return parsed


def bits(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.bitwise_count(a[:, None] ^ b).min())


def test_copies_differ_in_few_bits_and_other_pictures_in_many() -> None:
    original = textured(1)
    for copy in (
        encoded(original, 30),
        original.resize((60, 45)),
        original.resize((960, 720)),
        original.convert("L").convert("RGB"),
        ImageOps.expand(original, (40, 25), "black"),
        original.crop((24, 18, 216, 162)),
    ):
        assert bits(codes(original), codes(copy)) <= 8
    assert all(bits(codes(original), codes(textured(seed))) > 12 for seed in range(2, 12))


def test_bars_of_a_screenshot_are_left_out() -> None:
    original, screen = textured(1), Image.new("RGB", (270, 480), "black")
    screen.paste(original, (15, 150))
    pen = ImageDraw.Draw(screen)
    pen.text((10, 5), "12:45", "white")
    pen.rectangle((100, 465, 170, 470), fill="white")
    assert bits(codes(original), codes(screen)) <= 12


@pytest.mark.parametrize("name", [name for name in ALL if name])
def test_the_hash_of_a_turned_picture_is_a_permutation(name: str) -> None:
    original = textured(3, (200, 200))
    turned = Image.fromarray(ALL[name].pixels(np.asarray(original)))
    assert bits(ALL[name].hashes(codes(original)[:1]), codes(turned)[:1]) <= 2
    assert bits(codes(original)[:1], codes(turned)[:1]) > 12


def test_stored_hashes_of_another_version_are_not_used() -> None:
    data = perceptual_hash.hashes(textured(1))
    assert len(perceptual_hash.parse(data)) == (len(data) - 1) // 8
    assert perceptual_hash.parse(bytes([perceptual_hash.VERSION + 1]) + data[1:]) is None
    assert perceptual_hash.parse(data[:-1]) is None
    assert perceptual_hash.parse(b"") is None
    assert perceptual_hash.parse(None) is None


def test_strips_of_one_pixel_and_pictures_of_one_colour_have_hashes() -> None:
    for size in ((1, 1), (400, 1), (1, 400), (300, 200)):
        assert len(codes(Image.new("RGB", size, "red"))) >= 1


def test_hashes_stay_those_that_indexes_have_stored() -> None:
    bordered = ImageOps.expand(textured(2, (250, 188)), (0, 30, 17, 9), "gray")
    stored = "01f60c7ab106c90d6ef68deab9b25197ad7ea184f9f9167b7ef60ce891b25397ad628ee9907252939d"
    # VERSION is increased where this cannot be.
    assert perceptual_hash.hashes(bordered).hex() == stored
    assert (
        perceptual_hash.hashes(textured(1)).hex()
        == "01ce26b325537f68bd6c4b0f1ac3b530938c22b3f7d23e60fd0c2291d7d62e20d3"
    )
