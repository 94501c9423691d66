"""Small files that say they are enormous pictures."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def large_png(side: int, *, depth: int = 1) -> bytes:
    """A complete black PNG of side × side grey pixels, made a row at a time."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    compressor, row = zlib.compressobj(6), bytes(1 + -(-side * depth // 8))
    pixels = b"".join(compressor.compress(row) for _ in range(side)) + compressor.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def long_gif(side: int, frames: int) -> bytes:
    """An animation of black pictures."""
    frame, file = Image.new("L", (side, side)), io.BytesIO()
    frame.save(file, "GIF", save_all=True, append_images=[frame] * (frames - 1), duration=10)
    return file.getvalue()
