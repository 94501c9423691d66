"""Draws pictures with structure everywhere, as photographs have it, and copies of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def textured(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """A picture of soft patches with edges across them; each seed is another picture."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(50, 200, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).astype(np.int16)
    for _ in range(14):
        x, y, w, h = (int(rng.integers(0, side)) for side in (size[0], size[1], size[0] // 3, size[1] // 3))
        pixels[y : y + h, x : x + w] += rng.integers(-45, 45, 3, dtype=np.int16)
    pixels += rng.normal(0, 7, pixels.shape[:2])[..., None].round().astype(np.int16)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write(path: Path, picture: Image.Image, **options: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)
    return path


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    """The picture after it was compressed as a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
