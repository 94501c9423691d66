"""Damaged PNGs and JPEGs that Pillow decodes without an error are refused, and so are JPEGs made to take hours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from samples import NOISE, SMOOTH, TRUNCATED, encoded, pixels, reason

from imgindex.decoding.decode import decode
from imgindex.decoding.integrity import MAX_JPEG_SCANS


@pytest.mark.parametrize("kept", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "PNG", "smooth PNG", "LZW TIFF"])
def test_a_file_whose_end_is_zeros_is_refused(name: str, kept: float) -> None:
    whole = {**TRUNCATED, "smooth PNG": encoded(Image.fromarray(SMOOTH).resize((900, 1200)))}[name]
    half = int(len(whole) * kept)
    assert reason(whole[:half] + bytes(len(whole) - half))


def test_a_png_that_lacks_only_its_end_marker_is_whole() -> None:
    assert np.array_equal(pixels(TRUNCATED["PNG"][:-12]), NOISE)


@pytest.mark.parametrize("part", ["IHDR", "PLTE", "tRNS", "IDAT"])
def test_a_png_with_a_wrong_checksum_of_its_pixels_is_refused(part: str) -> None:
    data = bytearray(encoded(Image.fromarray(NOISE).quantize(64), transparency=3))
    at = data.find(part.encode())
    length = int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 + length] ^= 1
    assert reason(bytes(data)) == "damaged PNG: a checksum does not match"


@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_of_endless_scans_is_refused(progressive: bool) -> None:
    start = encoded(Image.fromarray(SMOOTH), "JPEG", progressive=progressive)
    first, last = start.find(b"\xff\xda"), start.rfind(b"\xff\xda")
    if not progressive:
        # A first scan of one component only makes the decoder wait for the others.
        start = start[:first] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + start[first + 14 :]
    data = start[:-2] + start[last:-2] * MAX_JPEG_SCANS + b"\xff\xd9"
    assert reason(data) == f"JPEG of more than {MAX_JPEG_SCANS} scans"


@pytest.mark.parametrize("progressive", [True, False])
def test_a_film_after_a_photograph_is_not_counted_as_scans(progressive: bool) -> None:
    film = b"\xff\xda\0\x08" * 2 * MAX_JPEG_SCANS
    assert decode(encoded(NOISE, "JPEG", progressive=progressive) + film)


def test_a_previews_end_marker_is_not_the_photographs() -> None:
    whole = encoded(NOISE, "JPEG", exif=b"Exif\0\0" + encoded(SMOOTH, "JPEG"))
    assert decode(whole)
    half = len(whole) - 1500
    assert reason(whole[:half] + bytes(5000)) == "JPEG breaks off: it has no end marker"
