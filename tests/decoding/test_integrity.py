"""Damaged PNGs and JPEGs that Pillow decodes without an error are refused, and so are JPEGs made to take hours."""

from __future__ import annotations

import struct
import warnings
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import ExifTags, Image
from samples import NOISE, SMOOTH, TRUNCATED, Array, encoded, pixels, reason

from imgindex.decoding.decode import Draft, decode
from imgindex.decoding.integrity import MAX_JPEG_SCANS
from imgindex.errors import UnreadableImage


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


# JPEGs that are complete


KINDS = [{}, {"progressive": True}, {"subsampling": 0, "quality": 97}, {"restart_marker_blocks": 2}, {"optimize": True}]


def pixels_or_reason(data: bytes) -> Array | str:
    try:
        return pixels(data)
    except UnreadableImage as error:
        return error.reason


@pytest.mark.parametrize(
    "picture", [NOISE, SMOOTH, NOISE[..., 0], SMOOTH * 0 + 200], ids=["noise", "smooth", "grey", "red"]
)
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_jpeg_is_complete_without_its_end_marker_but_not_with_less(picture: Array, options: dict[str, Any]) -> None:
    whole = encoded(picture, "JPEG", **options)
    expected = pixels(whole)
    # Of zeros behind a scan that ends with one, it is unknown how many belong to it: such a file may be refused.
    filled = [] if whole[:-2].endswith(b"\0") else [whole[:-2] + bytes(500), whole[:-1] + bytes(500)]
    for lacking in (whole[:-2], whole[:-1], *filled):
        assert np.array_equal(pixels(lacking), expected)
    scan = whole.rfind(b"\xff\xda")
    refused = set()
    for cut in (*range(3, 24), *range(24, min(120, len(whole) - scan), 7)):
        for end in (b"", bytes(300)):
            found = pixels_or_reason(whole[:-cut] + end)
            if isinstance(found, str):
                refused.add(found)
            else:
                # The last bytes may hold no bit of a pixel.
                assert np.array_equal(found, expected)
    assert "JPEG breaks off: it has no end marker" in refused
    assert "breaks off" in reason(whole[: (scan + len(whole)) // 2])


def test_a_progressive_jpeg_that_lacks_a_scan_breaks_off() -> None:
    whole = encoded(NOISE, "JPEG", progressive=True)
    scans = [at for at in range(len(whole)) if whole[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for scan in scans[1:]:
        start = whole.rfind(b"\xff\xc4", 0, scan)
        assert "breaks off" in reason(whole[:scan])
        assert "breaks off" in reason(whole[:start])


@pytest.mark.parametrize(
    "before", [b"\r\n", b"\n", b"\0", bytes(100), b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"]
)
@pytest.mark.parametrize("end", [None, -2])
def test_bytes_before_a_jpeg_do_not_count(before: bytes, end: int | None) -> None:
    whole = encoded(NOISE, "JPEG")
    assert np.array_equal(pixels(before + whole[:end]), pixels(whole))
    picture = decode(before + whole, draft=Draft(16))
    assert (picture.width, picture.height, picture.format) == (64, 48, "JPEG")
    assert reason(before + whole[: len(whole) // 2])


def test_a_jpeg_far_inside_a_file_or_in_a_document_is_not_the_file() -> None:
    assert reason(b"%PDF-1.4 1 0 obj stream " + encoded(NOISE, "JPEG")) == "not an image that Pillow can read"
    assert reason(b"a document" * 100 + encoded(NOISE, "JPEG")) == "not an image that Pillow can read"


# Metadata


def chunk(kind: bytes, content: bytes, *, damage: int = 0) -> bytes:
    checksum = zlib.crc32(kind + content) ^ damage
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


METADATA = {
    "large profile": (b"iCCP", b"profile\0\0" + zlib.compress(bytes(9_000_000))),
    "broken profile": (b"iCCP", b"profile\0\0broken"),
    "profile of another kind": (b"iCCP", b"profile\0\7broken"),
    "large text": (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(9_000_000))),
    "very large text": (b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "large international text": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(9_000_000))),
    "broken text": (b"zTXt", b"Comment"),
    "short gamma": (b"gAMA", b"\0"),
    "no gamma": (b"gAMA", b""),
    "short primaries": (b"cHRM", b"\0\0\0"),
    "no intent": (b"sRGB", b""),
    "short resolution": (b"pHYs", b"\0"),
    "broken EXIF": (b"eXIf", b"broken"),
    "private chunk": (b"prVt", b"anything"),
}


@pytest.mark.parametrize("damage", [0, 1])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", METADATA)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_metadata_of_a_png_never_makes_it_unreadable(name: str, late: bool, damage: int) -> None:
    data = encoded(NOISE)
    at = len(data) - 12 if late else 33
    assert np.array_equal(pixels(data[:at] + chunk(*METADATA[name], damage=damage) + data[at:]), NOISE)


def test_many_texts_do_not_make_a_png_unreadable() -> None:
    data = encoded(NOISE)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000)))
    assert np.array_equal(pixels(data[:33] + 80 * text + data[33:]), NOISE)


def test_the_orientation_of_a_png_counts_before_and_behind_its_pixels() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    content, data = exif.tobytes().removeprefix(b"Exif\0\0"), encoded(NOISE)
    for at in (33, len(data) - 12):
        for damage, size in ((0, (48, 64)), (1, (64, 48))):
            picture = decode(data[:at] + chunk(b"eXIf", content, damage=damage) + data[at:])
            assert (picture.width, picture.height) == size


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_significant_bits_of_a_png_are_its_depth(samples: int, bits: int) -> None:
    dark = np.dstack([NOISE, SMOOTH])[..., :samples].astype(np.uint16) << (bits - 8) >> 2
    if samples in {2, 4}:
        dark[..., -1] = 65535
    data = imagecodecs.png_encode(dark[..., 0] if samples == 1 else dark)
    found = pixels(data[:33] + chunk(b"sBIT", bytes([bits] * samples)) + data[33:])
    expected = dark[..., :3] if samples > 2 else np.repeat(dark[..., :1], 3, axis=2)
    assert np.array_equal(found, expected >> (bits - 8))
    if samples > 2:
        assert np.array_equal(pixels(data, alpha="drop"), expected >> 8)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_a_png_of_16_bits_has_the_depth_that_its_values_fill(samples: int, bits: int) -> None:
    values = np.dstack([NOISE, SMOOTH])[..., :samples].astype(np.uint16) << (bits - 8)
    if samples in {2, 4}:
        values[..., -1] = 65535
    found = pixels(imagecodecs.png_encode(values[..., 0] if samples == 1 else values))
    expected = NOISE if samples > 2 else np.repeat(NOISE[..., :1], 3, axis=2)
    assert np.array_equal(found, expected)


def test_metadata_of_a_jpeg_never_makes_it_unreadable() -> None:
    data = encoded(NOISE, "JPEG")
    profile = b"\xff\xe2" + struct.pack(">H", 2 + 12 + 4) + b"ICC_PROFILE\0" + b"\x09\x01ab"
    xmp = b"\xff\xe1" + struct.pack(">H", 2 + 40) + b"http://ns.adobe.com/xap/1.0/\0<x:broken>"[:40].ljust(40)
    index = b"\xff\xe2" + struct.pack(">H", 2 + 12) + b"MPF\0broken!!"
    comment = b"\xff\xfe\xff\xff" + bytes(65533)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for segment in (profile, xmp, index, comment * 40):
            assert np.array_equal(pixels(data[:2] + segment + data[2:]), pixels(data))
