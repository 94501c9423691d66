"""What is blank, and the digest of the pixels of a file: equal for equal values and opacity, whatever the format."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from textures import textured

from imgindex.decoding import blank


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def test_one_colour_or_nearly_one_is_blank() -> None:
    noise = np.random.default_rng(0).normal(245, 3, (320, 240, 3)).clip(0, 255).astype(np.uint8)
    for picture in (Image.new("RGB", (300, 200), "white"), Image.new("RGB", (1, 1)), Image.fromarray(noise)):
        assert blank.is_blank(picture)
    dot = Image.new("RGB", (300, 200), "white")
    ImageDraw.Draw(dot).text((140, 90), "7", "black")
    assert not blank.is_blank(dot)
    # Between the pixels that are looked at first.
    stripes = Image.new("RGB", (640, 480), "white")
    for left in range(0, 640, 40):
        ImageDraw.Draw(stripes).rectangle((left, 0, left + 9, 479), "black")
    assert not blank.is_blank(stripes)
    assert not blank.is_blank(textured(1))


def test_the_digest_is_of_the_pixels_and_not_of_the_format() -> None:
    picture = textured(1, (50, 700))
    wanted = blank.digest_of_file(saved(picture, "PNG"))
    assert len(blank.parse(wanted) or b"") == 32
    exif = Image.Exif()
    exif[274] = 6
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    for data in (
        saved(picture, "PNG", optimize=True, pnginfo=None),
        saved(picture, "BMP"),
        saved(picture, "TIFF", compression="tiff_lzw"),
        saved(picture, "WEBP", lossless=True),
        saved(picture.convert("RGBA"), "PNG"),
        saved(turned, "TIFF", exif=exif),
    ):
        assert blank.digest_of_file(data) == wanted
    jpeg = saved(picture, "JPEG", quality=90)
    decoded = Image.open(io.BytesIO(jpeg)).convert("RGB")
    assert blank.digest_of_file(jpeg) == blank.digest_of_file(saved(decoded, "PNG")) != wanted


def test_size_opacity_and_colours_under_it_change_the_digest() -> None:
    white = Image.new("RGBA", (40, 30), "white")
    pictures = [
        white,
        white.resize((30, 40)),
        Image.new("RGBA", (40, 30), (255, 255, 255, 254)),
        Image.new("RGBA", (40, 30), (255, 255, 255, 0)),
        Image.new("RGBA", (40, 30), (0, 0, 0, 0)),
        Image.new("RGBA", (40, 30), (255, 255, 254, 255)),
    ]
    assert len({blank.digest_of_file(saved(picture, "PNG")) for picture in pictures}) == len(pictures)


def test_files_whose_values_are_not_all_known_have_an_empty_digest() -> None:
    grey, wide = Image.new("L", (8, 8), 200), Image.new("I;16", (8, 8), 51400)
    many = [grey, Image.new("L", (8, 8), 201)]
    for data in (
        saved(wide, "PNG"),
        saved(wide, "TIFF"),
        saved(Image.new("CMYK", (8, 8)), "JPEG"),
        saved(grey, "TIFF", save_all=True, append_images=many),
        saved(grey, "GIF", save_all=True, append_images=many),
        saved(grey, "JPEG2000"),
        saved(grey, "PNG")[:-20],
        b"no picture",
    ):
        assert blank.parse(blank.digest_of_file(data)) == b""


def test_the_high_bytes_of_16_bits_are_no_digest() -> None:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, np.full((8, 8, 3), 51400, np.uint16), photometric="rgb")
    assert blank.parse(blank.digest_of_file(file.getvalue())) == b""


@pytest.mark.parametrize("stored", [None, b"", b"\x01" + bytes(32), bytes([blank.VERSION]) + bytes(31)])
def test_what_is_no_digest_is_not_parsed_as_one(stored: bytes | None) -> None:
    assert blank.parse(stored) is None
