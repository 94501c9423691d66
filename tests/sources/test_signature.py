"""Images are recognised by their first bytes, and nothing else is."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from imgindex.sources.signature import HEAD, is_image, read_head

# Formats without a signature, with one that other files may have by chance, or that imgindex does not read.
NOT_RECOGNISED = {"BLP", "DIB", "EPS", "MSP", "PALM", "PCX", "PDF", "SGI", "SPIDER", "TGA", "XBM"}
MODES = {"MSP": "1", "XBM": "1", "PALM": "P", "BLP": "P"}
# Those that Pillow writes through other programs, and IM, which it is about to drop.
NOT_TRIED = {"BUFR", "GRIB", "HDF5", "WMF", "IM"}


def test_every_format_with_a_signature_is_recognised() -> None:
    pillow_heif.register_heif_opener()
    Image.init()
    for format in set(Image.SAVE) - NOT_TRIED:
        file = io.BytesIO()
        Image.new(MODES.get(format, "RGB"), (40, 30)).save(file, format)
        assert is_image(file.getvalue()[:HEAD]) == (format not in NOT_RECOGNISED), format


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"BM is short for Bavarian Motor\n" * 2,
        b"P3 is a class of aircraft, P6 another one",
        b"\n\x05\x01 a text",
        b"GIF is a format",
        b"\xff\x0a text",
        b"RIFF\x10\0\0\0WAVEfmt ",
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
        b"PK\x03\x04\x14\0\0\0",
        b"\x7fELF\x02\x01\x01\0",
        b"%PDF-1.7\n",
        b"SQLite format 3\0",
        b"#!/bin/sh\n",
        b"\0" * HEAD,
    ],
)
def test_other_files_are_not_recognised(head: bytes) -> None:
    assert not is_image(head)


def test_reading_the_head_reads_no_more_and_never_waits(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 1000)
    assert read_head(str(tmp_path / "long")) == b"x" * HEAD
    os.mkfifo(tmp_path / "fifo")
    assert not read_head(str(tmp_path / "fifo"))
    assert read_head(str(tmp_path / "gone")) is None
    assert read_head(str(tmp_path)) is None
