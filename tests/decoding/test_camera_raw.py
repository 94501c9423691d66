"""Camera raw files: recognised by their content, developed by rawpy, and never the preview on their first page."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from samples import SMOOTH, Array, encoded, reason

from imgindex.decoding.decode import Draft, decode
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.transforms import prepare
from imgindex.errors import UnreadableImage
from imgindex.recipe import Recipe

PICTURE = np.asarray(Image.fromarray(SMOOTH).resize((320, 240)))
RECIPE = replace(Recipe.without_network("raw", 64), alpha="visible")
# From CIE XYZ to sRGB, in thousandths.
MATRIX = (3240, -1537, -498, -969, 1876, 41, 55, -204, 1057)


def dng(picture: Array = PICTURE, *, preview_first: bool = True, orientation: int = 1) -> bytes:
    """A raw file as cameras write it: a preview of another picture, and below it the values of a Bayer sensor."""
    light = (picture / 255) ** 2.2 * 16383
    mosaic = np.empty(picture.shape[:2], np.uint16)
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = light[row::2, column::2, channel]
    about = [
        (50706, 1, 4, bytes([1, 4, 0, 0]), True),
        (50708, 2, 5, "Test", True),
        (271, 2, 5, "Test", True),
        (272, 2, 5, "Test", True),
        (274, 3, 1, orientation, True),
        (50721, 10, 9, [number for value in MATRIX for number in (value, 1000)], True),
        (50728, 5, 3, [1] * 6, True),
        (50778, 3, 1, 21, True),
    ]
    sensor = [
        (33421, 3, 2, [2, 2], True),
        (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50714, 3, 1, 0, True),
        (50717, 3, 1, 16383, True),
    ]
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder="<") as writer:
        options: dict[str, Any] = {"photometric": 32803, "metadata": None}
        if preview_first:
            preview = np.full((12, 16, 3), 200, np.uint8)
            writer.write(preview, photometric="rgb", subfiletype=1, subifds=1, extratags=about, metadata=None)
            writer.write(mosaic, extratags=sensor, **options)
        else:
            writer.write(mosaic, extratags=about + sensor, **options)
    return file.getvalue()


def likeness(found: Image.Image) -> float:
    shown = np.asarray(Image.fromarray(PICTURE).resize(found.size)).astype(float)
    return float(np.corrcoef(np.asarray(found).astype(float).ravel(), shown.ravel())[0, 1])


@pytest.mark.parametrize("preview_first", [True, False])
def test_a_raw_file_is_developed(preview_first: bool) -> None:
    picture = decode(dng(preview_first=preview_first))
    assert (picture.width, picture.height, picture.format) == (320, 240, "RAW")
    assert likeness(picture.image) > 0.98
    small = decode(dng(preview_first=preview_first), draft=Draft(64))
    assert (small.image.size, small.width, small.height) == ((64, 48), 320, 240)
    assert likeness(small.image) > 0.98
    assert prepare(picture.image, RECIPE).shape == (64, 64, 3)


def test_a_raw_file_is_turned_upright() -> None:
    picture = decode(dng(orientation=6), draft=Draft(64))
    assert (picture.image.size, picture.width, picture.height) == ((48, 64), 240, 320)


@pytest.fixture
def no_rawpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rawpy", None)


HEADERS = {
    "Canon CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "Canon CR2": b"II*\0\x10\0\0\0CR\x02\0",
    "Fujifilm RAF": b"FUJIFILMCCD-RAW 0201FF383501",
    "Olympus ORF": b"IIRO\x08\0\0\0",
    "Panasonic RW2": b"IIU\0\x18\0\0\0",
    "Minolta MRW": b"\0MRM\0\0\0\0",
    "Sigma X3F": b"FOVb\0\0\2\0",
    "Canon CRW": b"II\x1a\0\0\0HEAPCCDR",
    "Phase One IIQ": b"II*\0\x08\0\0\0IIII",
}


@pytest.mark.usefixtures("no_rawpy")
@pytest.mark.parametrize("name", HEADERS)
def test_without_rawpy_the_reason_names_it(name: str) -> None:
    with pytest.raises(UnreadableImage, match="a camera raw file needs `pip install rawpy`") as caught:
        decode(HEADERS[name] + bytes(500))
    assert caught.value.decoder == "rawpy"


@pytest.mark.usefixtures("no_rawpy")
@pytest.mark.parametrize("preview_first", [True, False])
def test_without_rawpy_a_preview_does_not_pass_as_the_picture(preview_first: bool) -> None:
    assert reason(dng(preview_first=preview_first)) == "a camera raw file needs `pip install rawpy`"


def test_a_cr2_is_raw_although_its_first_page_is_a_photograph() -> None:
    preview = encoded(SMOOTH, "TIFF")
    offset = int.from_bytes(preview[4:8], "little")
    # Its directory moves eight bytes back, for Canon's mark; the strips are wrong then, but nobody reads them.
    data = preview[:4] + (offset + 8).to_bytes(4, "little") + b"CR\x02\0\0\0\0\0" + preview[8:]
    assert "raw" in reason(data)


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_raw_file_is_refused_by_the_library(name: str) -> None:
    assert reason(HEADERS[name] + bytes(500)).startswith("LibRaw cannot develop this camera raw file: ")


def test_a_truncated_raw_file_is_refused() -> None:
    data = dng()
    for kept in (0.2, 0.5, 0.9):
        reason(data[: int(len(data) * kept)])


def test_the_missing_decoder_is_named_by_a_decoder_process_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "rawpy.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    decoders = DecoderPool(RECIPE)
    try:
        with pytest.raises(UnreadableImage, match="needs `pip install rawpy`") as caught:
            decoders.decode(dng())
        assert (caught.value.decoder, caught.value.stage) == ("rawpy", "decode")
        with pytest.raises(UnreadableImage) as caught:
            decoders.decode(b"no picture")
        assert caught.value.decoder == ""
    finally:
        decoders.close()
