"""Recognises the formats of images by a file's first bytes, for files whose names have no ending."""

from __future__ import annotations

import os
import re

# Bytes that are read of a file.
HEAD = 64
# Only signatures that other files do not begin with by chance: a text that begins with "P3" or "BM" must not become an
# image that cannot be read. Files in the formats that are left out are added by their ending, or by name.
_SIGNATURES = re.compile(
    rb"""
      \xff\xd8\xff                                      # JPEG
    | \x89PNG\r\n\x1a\n
    | GIF8[79]a
    | RIFF....WEBP
    | II\*\0 | MM\0\* | II\+\0 | MM\0\+                 # TIFF, BigTIFF, and the camera raw formats that are TIFFs
    | BM .{4} \0{4} .{4} [\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0   # BMP, with the size of a known header
    | \0\0\0\x0cjP\ \ \r\n\x87\n | \xff\x4f\xff\x51\0   # JPEG 2000
    | \0\0\0\x0cJXL\ \r\n\x87\n | \xff\x0a[^\r\n\t\x20-\x7e]   # JPEG XL
    | .{4}ftyp (?: .{4}.{4} )?? (?: avif | avis | heic | heix | heim | heis | hevc | hevx | hevm | hevs | mif1 | msf1 )
    | 8BPS\0\x01                                        # PSD
    | qoif .{8} [\x03\x04][\0\x01]
    | icns .{4} (?: ic | is | il | it | ih | TOC )
    | \0\0[\x01\x02]\0 [\x01-\x40]\0 .. .\0             # icon and cursor of 1 to 64 pictures
    | DDS\ \x7c\0\0\0
    | P[1-6]\s+(?:\#[^\n]*\n\s*)?\d+\s+\d+\s           # PBM, PGM, PPM
    | SIMPLE\ \ =\ {20}T                                # FITS
    | FUJIFILMCCD-RAW | FOVb | IIRO | IIRS | IIU\0      # camera raw formats that are not TIFFs
    """,
    re.VERBOSE | re.DOTALL,
)


def is_image(head: bytes) -> bool:
    """Return whether a file that begins with these bytes, HEAD of them where it has so many, is an image.

    >>> is_image(b"GIF89a"), is_image(b"plain text")
    (True, False)
    """
    return _SIGNATURES.match(head) is not None


def read_head(path: str) -> bytes | None:
    """Return the first HEAD bytes of a file, fewer if it has fewer; None if it cannot be read. Never blocks."""
    try:
        # O_NONBLOCK: a pipe may have taken the place of the file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        return os.read(descriptor, HEAD)
    except OSError:
        return None
    finally:
        os.close(descriptor)
