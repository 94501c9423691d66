"""Refuses damaged and malicious files that Pillow would decode without an error; nothing here decodes pixels."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator

from PIL import Image

from imgindex.errors import UnreadableImage

# Encoders write about twenty scans at most. With 500, the largest picture that is allowed takes seconds, not hours.
MAX_JPEG_SCANS = 500

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_SEQUENTIAL_FRAMES = {0xC0, 0xC1}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def check(data: bytes, *, format: str) -> None:
    """Raise UnreadableImage for a PNG with a wrong checksum, and for a JPEG without an end or with too many scans."""
    if format == "PNG":
        _check_png(data)
    elif format in {"JPEG", "MPO"}:
        _check_jpeg(data)


def _check_png(data: bytes) -> None:
    # Decoding compares no checksum of pixel chunks and stops at the last row. So a file whose end was never written
    # (zeros, after a crash or a broken download) may decode to half a picture without an error.
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        try:
            # OSError: the file ends before its end marker. Decoding raises that too, if pixels are missing.
            with contextlib.suppress(OSError):
                image.verify()
        except SyntaxError as error:
            raise UnreadableImage("damaged PNG: a checksum does not match") from error


def _check_jpeg(data: bytes) -> None:
    # A photograph in one scan returns before bytes.count, which reads the whole file and holds the interpreter's lock.
    components = scans = 0
    sequential = False
    for code, start in _jpeg_markers(data):
        if code == _END_OF_IMAGE:
            return
        if code in _FRAMES:
            sequential, components = code in _SEQUENTIAL_FRAMES, data[start + 9]
        if code == _START_OF_SCAN:
            # Zeros in place of the end would decode, to grey. An end marker before the first scan is a preview's.
            if not scans and data.rfind(b"\xff\xd9") < start:
                raise UnreadableImage("JPEG breaks off: it has no end marker")
            in_one_scan = sequential and data[start + 4] == components
            if not scans and (in_one_scan or data.count(b"\xff\xda") <= MAX_JPEG_SCANS):
                return
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise UnreadableImage(f"JPEG of more than {MAX_JPEG_SCANS} scans")


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the code and the position of each marker; the length after a marker leads to the next one."""
    marker = _JPEG_MARKER.search(data, 2)
    while marker:
        yield data[marker.start() + 1], marker.start()
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        marker = _JPEG_MARKER.search(data, marker.end() + length)
