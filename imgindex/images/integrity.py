"""Finds the damage and the traps in a file's bytes that Pillow lets pass; nothing here decodes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from imgindex.errors import UnreadableImage

# No encoder writes more than some twenty; at 500 the largest picture that is allowed takes seconds, not hours.
MAX_JPEG_SCANS = 500

_SCAN, _END = 0xDA, 0xD9
_SEQUENTIAL = {0xC0, 0xC1}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def check(data: bytes, *, format: str) -> None:
    """Raise UnreadableImage for a damaged PNG, a JPEG without end, and a JPEG made to keep a decoder busy for hours."""
    if format == "PNG":
        _check_png(data)
    elif format in {"JPEG", "MPO"}:
        _check_jpeg(data)


def _check_png(data: bytes) -> None:
    # Pillow compares no checksum of pixel chunks and stops at the last row, so that a file whose end was never
    # written (zeros, after a crash or a broken download) may come out as half a picture without a word.
    view = memoryview(data)
    start = 8
    while start + 8 <= len(data):
        length = int.from_bytes(view[start : start + 4], "big")
        kind = bytes(view[start + 4 : start + 8])
        end = start + 8 + length
        if kind == b"IEND":
            return
        if kind == b"IDAT" and end + 4 <= len(data):
            stored = int.from_bytes(view[end : end + 4], "big")
            if zlib.crc32(view[start + 4 : end]) != stored:
                raise UnreadableImage("damaged PNG: the checksum of its pixels is wrong")
        start = end + 4


def _check_jpeg(data: bytes) -> None:
    # bytes.count reads the whole file and holds the GIL, so a photograph written in one pass is let go before it.
    components = scans = 0
    sequential = False
    for code, start in _jpeg_markers(data):
        if code == _END:
            return
        if code in _FRAMES:
            sequential, components = code in _SEQUENTIAL, data[start + 9]
        if code == _SCAN:
            # Zeros in place of the end decode well, to grey; the end marker of a preview lies before the first scan.
            if not scans and data.rfind(b"\xff\xd9") < start:
                raise UnreadableImage("JPEG breaks off: it has no end marker")
            in_one_pass = sequential and data[start + 4] == components
            if not scans and (in_one_pass or data.count(b"\xff\xda") <= MAX_JPEG_SCANS):
                return
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise UnreadableImage(f"JPEG of more than {MAX_JPEG_SCANS} scans")


def _jpeg_markers(data: bytes) -> Iterator[tuple[int, int]]:
    marker = _JPEG_MARKER.search(data, 2)
    while marker:
        yield data[marker.start() + 1], marker.start()
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big")
        marker = _JPEG_MARKER.search(data, marker.end() + length)
