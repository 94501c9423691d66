"""Limits of decoders, encoded pictures, and what the tests ask a pool of decoders."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.process import DecodeLimits
from imgindex.errors import UnreadableImage

TIGHT = DecodeLimits(seconds=1.5, memory=512 << 20)
LATE = "decoding took more than 1.5 s"


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def plain(colour: str = "red") -> bytes:
    return encoded(Image.new("RGB", (40, 30), colour))


def reason(decoders: DecoderPool, data: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decoders.decode(data)
    assert caught.value.stage == "decode"
    return caught.value.reason


def pids(decoders: DecoderPool) -> list[int]:
    return [one._process.pid for one in decoders._processes]
