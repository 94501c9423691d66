"""Pictures and encoded files that the tests of decoding share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgindex.decoding.decode import decode
from imgindex.errors import UnreadableImage

Array = npt.NDArray[Any]

RNG = np.random.default_rng(7)
NOISE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
ROW, COLUMN = np.mgrid[:48, :64]
SMOOTH = np.stack([COLUMN * 4, ROW * 5, COLUMN + ROW], axis=-1).astype(np.uint8)
ALPHA = (COLUMN * 4).astype(np.uint8)


def encoded(image: Image.Image | Array, format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def pixels(data: bytes, **options: Any) -> Array:
    return np.asarray(decode(data, **options).image)


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, **options)
    assert caught.value.stage == "decode"
    assert "0x" not in caught.value.reason
    return caught.value.reason


# Small files of formats whose truncation can be noticed.
TRUNCATED = {
    "JPEG": encoded(NOISE, "JPEG"),
    "progressive JPEG": encoded(NOISE, "JPEG", progressive=True),
    "PNG": encoded(NOISE),
    "palette PNG": encoded(Image.fromarray(NOISE).quantize(16)),
    "GIF": encoded(NOISE, "GIF"),
    "WebP": encoded(NOISE, "WEBP"),
    "lossless WebP": encoded(NOISE, "WEBP", lossless=True),
    "BMP": encoded(NOISE, "BMP"),
    "TIFF": encoded(NOISE, "TIFF"),
    "LZW TIFF": encoded(NOISE, "TIFF", compression="tiff_lzw"),
    "JPEG 2000": encoded(NOISE, "JPEG2000"),
    "AVIF": encoded(NOISE, "AVIF"),
    "PPM": encoded(NOISE, "PPM"),
    "TGA": encoded(NOISE, "TGA"),
    "QOI": encoded(NOISE, "QOI"),
}
