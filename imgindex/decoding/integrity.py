"""Finds damage and traps in a file's bytes that Pillow does not notice, and leaves out metadata that would stop it.

Nothing here decodes pixels.
"""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from collections.abc import Iterator

from PIL import Image

from imgindex.errors import UnreadableImage

# Encoders write about twenty scans at most. With 500, the largest picture that is allowed takes seconds, not hours.
MAX_JPEG_SCANS = 500

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_END_MARKER = bytes([0xFF, _END_OF_IMAGE])
_NOISE_STEPS = (89, 166, 203)
_SEQUENTIAL_FRAMES = {0xC0, 0xC1}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


# Bytes that may stand before a JPEG: a line end, the header of a protocol.
MAX_BYTES_BEFORE_JPEG = 512

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
# The chunks on which pixels depend besides the critical ones: transparency, frames, orientation.
_PIXEL_CHUNKS = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf"})
_SIGNIFICANT_BITS = b"sBIT"
# `check` compares the checksums of pixels; nothing depends on that of the end.
_CHECKED_LATER = frozenset({b"IDAT", b"fdAT", b"IEND"})
DAMAGED_PNG = "damaged PNG: a checksum does not match"


def check(data: bytes, *, format: str) -> None:
    """Raise UnreadableImage for a PNG with a wrong checksum, and for a JPEG of too many scans.

    `data` of a PNG is what `pixel_chunks` returns.
    """
    if format == "PNG":
        _check_png(data)
    elif format in {"JPEG", "MPO"}:
        _check_jpeg(data)


def pixel_chunks(data: bytes) -> tuple[bytes, int]:
    """Return a PNG without the chunks that no pixel depends on, and how many bits of a sample are significant, or 0.

    Pillow would refuse the whole file for a profile or a text that is large or damaged, or for a short gamma. Raises
    UnreadableImage for a wrong checksum of a chunk before the pixels.
    """
    kept, bits, start, end = [], 0, 0, len(PNG_SIGNATURE)
    while end + 12 <= len(data):
        length, kind = int.from_bytes(data[end : end + 4], "big"), data[end + 4 : end + 8]
        following = end + 12 + length
        if not kind.isalpha() or following > len(data):
            break
        if kind == _SIGNIFICANT_BITS:
            bits = max(data[end + 8 : end + 8 + min(length, 3)], default=0)
        is_metadata = kind[0] & 0x20 and kind not in _PIXEL_CHUNKS
        if not is_metadata and kind not in _CHECKED_LATER and not _is_sound(data, end, length):
            if kind != b"eXIf":
                raise UnreadableImage(DAMAGED_PNG)
            is_metadata = True
        if is_metadata:
            kept.append(data[start:end])
            start = following
        end = following
        if kind == b"IEND":
            break
    return (b"".join([*kept, data[start:]]) if kept else data), bits


def _is_sound(data: bytes, at: int, length: int) -> bool:
    return zlib.crc32(data[at + 4 : at + 8 + length]) == int.from_bytes(data[at + 8 + length : at + 12 + length], "big")


def without_leading_bytes(data: bytes) -> bytes:
    """Return a JPEG without the few bytes before its start; other data, and PDF and PostScript, as they are."""
    at = data.find(_JPEG_START, 1, MAX_BYTES_BEFORE_JPEG)
    return data[at:] if at > 0 and not data.startswith(b"%") else data


def lacks_end(data: bytes) -> bool:
    """Whether a JPEG has no end marker behind the start of its first scan."""
    if data.endswith(_END_MARKER):
        return False
    for code, start in _jpeg_markers(data):
        if code == _END_OF_IMAGE:
            return False
        if code == _START_OF_SCAN:
            return data.rfind(_END_MARKER) < start
    return False


def without_fill(data: bytes) -> bytes:
    """Return a JPEG without an end marker, without the zeros and the half of a marker behind its last scan."""
    body = data.rstrip(b"\0")
    if body == data:
        return data[:-1] if data.endswith(b"\xff") else data
    # In a scan, 0xFF 0x00 stands for 0xFF.
    return body + b"\0" if body.endswith(b"\xff") else body


def with_ends(body: bytes) -> list[bytes]:
    """Return a JPEG without an end marker with one, and several times with other scan data before it.

    If its scans are complete, all have the same pixels: a decoder stops at the last pixel. Empty if a scan is missing.
    """
    if not _has_all_scans(body):
        return []
    restarts = [body.rfind(bytes([0xFF, 0xD0 + number])) for number in range(8)]
    following = (restarts.index(max(restarts)) + 1) % 8 if max(restarts) > 0 else 0
    tails = (_scan_data(step, following) for step in _NOISE_STEPS)
    return [body + tail + _END_MARKER for tail in (b"", *tails)]


def _scan_data(step: int, restart: int) -> bytes:
    """Return codes of many lengths, with restart markers from that number on: decoders skip what is not their next."""
    noise = bytes(value * step % 255 for value in range(1, 255))  # without 0xFF, which would begin a marker
    return b"".join(noise + bytes([0xFF, 0xD0 + (restart + number) % 8]) for number in range(16))


def _has_all_scans(data: bytes) -> bool:
    """Whether the scans before the end of the data cover every bit of every coefficient of every component."""
    missing: dict[int, set[int]] = {}
    progressive = False
    for code, start in _jpeg_markers(data):
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        if start + 2 + length > len(data):
            return False
        if code in _FRAMES:
            progressive = code not in _SEQUENTIAL_FRAMES
            missing = {data[start + 10 + 3 * at]: set(range(64)) for at in range(data[start + 9])}
        if code == _START_OF_SCAN:
            count = data[start + 4]
            first, last, bits = data[start + 5 + 2 * count : start + 8 + 2 * count]
            covered = range(first, last + 1) if progressive else range(64)
            if not progressive or not bits & 15:
                for at in range(count):
                    missing.get(data[start + 5 + 2 * at], set()).difference_update(covered)
    return bool(missing) and not any(missing.values())


def _check_png(data: bytes) -> None:
    # Decoding compares no checksum of pixel chunks and stops at the last row. So a file whose end was never written
    # (zeros, after a crash or a broken download) may decode to half a picture without an error.
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        try:
            # OSError: the file ends before its end marker. Decoding raises that too, if pixels are missing.
            with contextlib.suppress(OSError):
                image.verify()
        except SyntaxError as error:
            raise UnreadableImage(DAMAGED_PNG) from error


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
