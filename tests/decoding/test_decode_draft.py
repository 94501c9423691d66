"""JPEGs decoded at a reduced size: nearly the same as scaled afterwards, and damage is noticed all the same."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from imgindex.decoding.decode import Draft, decode
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import draft, prepare
from imgindex.errors import UnreadableImage
from imgindex.recipe import RECIPES

WIDTH, HEIGHT, SIDE = 1203, 901, 64  # an eighth of it has pixels that are only partly of the picture


def photograph() -> Image.Image:
    """A picture with detail of every size, more of it coarse than fine, as photographs have."""
    rng = np.random.default_rng(3)
    layers = [rng.integers(0, 256, (2**level, 2**level, 3), dtype=np.uint8) for level in range(2, 10)]
    scaled = [np.asarray(Image.fromarray(layer).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) for layer in layers]
    weights = 0.6 ** np.arange(len(layers))
    mixed = np.tensordot(weights / weights.sum(), np.stack(scaled).astype(float), 1)
    return Image.fromarray(np.clip((mixed - 128) * 2 + 128, 0, 255).astype(np.uint8))


PHOTOGRAPH = photograph()


def jpeg(picture: Image.Image, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, **options)
    return file.getvalue()


def difference(data: bytes, side: int = SIDE, margin: float = 2.0) -> float:
    """How far a drafted picture is from the whole one scaled afterwards: mean over its pixels, of 255."""
    whole, drafted = decode(data), decode(data, draft=Draft(side, margin))
    assert (drafted.width, drafted.height, drafted.format) == (whole.width, whole.height, whole.format)
    scaled = whole.image.resize(drafted.image.size, Image.Resampling.BILINEAR)
    return float(np.abs(np.asarray(scaled).astype(int) - np.asarray(drafted.image)).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_comes_out_upright_and_in_place_whichever_way_it_was_stored(orientation: int) -> None:
    data = jpeg(PHOTOGRAPH, orientation, quality=95)
    assert sorted(decode(data, draft=Draft(SIDE)).image.size) == [48, SIDE]
    assert difference(data) < 0.5


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_of_jpeg_are_drafted_too(mode: str) -> None:
    assert difference(jpeg(PHOTOGRAPH.convert(mode), quality=95)) < 0.5


def test_a_progressive_jpeg_is_drafted_too() -> None:
    assert difference(jpeg(PHOTOGRAPH, progressive=True, quality=95)) < 0.5


@pytest.mark.parametrize("side", [500, 700, 1300])
def test_a_jpeg_that_is_not_much_larger_is_the_same_to_the_pixel(side: int) -> None:
    assert difference(jpeg(PHOTOGRAPH), side) == 0
    # Scaled before it is turned, so that its rows and columns are rounded in another order.
    assert difference(jpeg(PHOTOGRAPH, 6), side) < 0.2


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_the_same_to_the_pixel(format: str) -> None:
    file = io.BytesIO()
    PHOTOGRAPH.save(file, format)
    assert difference(file.getvalue()) == 0


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_jpeg_is_refused_also_where_an_eighth_of_it_is_decoded(share: float, progressive: bool) -> None:
    data = jpeg(PHOTOGRAPH, progressive=progressive)
    for broken in (data[: int(len(data) * share)], data[: int(len(data) * share)] + bytes(1000)):
        with pytest.raises(UnreadableImage):
            decode(broken, draft=Draft(SIDE))


def test_a_jpeg_keeps_as_many_times_the_pixels_as_the_margin_asks_for() -> None:
    """Of 1,203 pixels a half are 602: enough for 400 with a margin of 1.5, and for 301 with one of 2."""
    data = jpeg(PHOTOGRAPH, quality=95)
    for side, margin in ((400, 1.5), (300, 2.0)):
        assert 0 < difference(data, side, margin) < 2
    for side, margin in ((410, 1.5), (310, 2.0)):
        assert difference(data, side, margin) == 0


def test_a_strip_of_a_picture_keeps_at_least_a_pixel() -> None:
    strip = decode(jpeg(Image.new("RGB", (4000, 9), "red")), draft=Draft(SIDE))
    assert (strip.image.size, strip.width, strip.height) == ((SIDE, 1), 4000, 9)
    assert min(np.asarray(strip.image)[..., 0].flat) > 240


@pytest.mark.parametrize("orientation", [1, 6])
def test_with_a_smaller_margin_fewer_pixels_are_decoded(orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts: list[tuple[int, int]] = []
    draft = JpegImageFile.draft

    def noted(self: JpegImageFile, mode: str | None, size: tuple[int, int]) -> object:
        found = draft(self, mode, size)
        drafts.append(self.size)
        return found

    monkeypatch.setattr(JpegImageFile, "draft", noted)
    data = jpeg(PHOTOGRAPH, orientation, quality=95)
    side = max(PHOTOGRAPH.size) // 4
    pictures = [decode(data, draft=Draft(side, margin)) for margin in (1, 2)]
    assert [max(size) for size in drafts] == [-(-WIDTH // 4), -(-WIDTH // 2)]
    assert len({(one.image.size, one.width, one.height) for one in pictures}) == 1
    smaller, usual = (np.asarray(one.image).astype(int) for one in pictures)
    assert 0 < np.abs(smaller - usual).mean() < 2


def test_a_pool_decodes_with_the_margin_of_its_recipe() -> None:
    data = jpeg(PHOTOGRAPH, quality=95)
    for margin in (1.0, 2.0):
        recipe = replace(RECIPES["vgg16-pool5"], side=max(PHOTOGRAPH.size) // 4, draft_margin=margin)
        pool = DecoderPool(recipe)
        expected = prepare(decode(data, draft=draft(recipe)).image, recipe)
        try:
            assert np.array_equal(pool.decode(data).pixels, expected)
        finally:
            pool.close()
