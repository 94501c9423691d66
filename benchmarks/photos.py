"""Make folders of JPEGs for the benchmarks, all different, varied from photos or drawn images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sample_images
from PIL import Image, ImageEnhance

DRAWN = 40
QUALITY = 90


def labelled(archive: Path, folder: Path) -> dict[Path, str]:
    """Unpack a tar of CLASS/FILE into a folder, and return the class of each file."""
    classes = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            data = tar.extractfile(member)
            if data is not None:
                path = folder / Path(member.name).parent.name / Path(member.name).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data.read())
                classes[path] = path.parent.name
    return classes


def sources(archive: Path | None, seed: int) -> Iterator[Image.Image]:
    """Yield RGB images: those of a tar of photos, on white, or drawn ones."""
    if archive is None:
        kinds = list(sample_images.KINDS)
        for number in range(DRAWN):
            yield sample_images.draw(kinds[number % len(kinds)], np.random.default_rng([seed, number]))
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            data = tar.extractfile(member)
            if data is not None:
                picture = Image.open(io.BytesIO(data.read())).convert("RGBA")
                white = Image.new("RGBA", picture.size, "white")
                white.alpha_composite(picture)
                yield white.convert("RGB")


def write(
    folder: Path, count: int, *, archive: Path | None = None, size: tuple[int, int] = (500, 375), seed: int = 0
) -> list[Path]:
    """Write JPEGs of one size, each a part of an image with other brightness and noise; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, pictures, written = np.random.default_rng(seed), list(sources(archive, seed)), []
    for number in range(count):
        picture = pictures[number % len(pictures)]
        width, height = (max(1, int(side * rng.uniform(0.8, 1))) for side in picture.size)
        left, top = (
            int(rng.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
        )
        part = picture.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.BICUBIC)
        part = ImageEnhance.Brightness(part).enhance(rng.uniform(0.8, 1.2))
        noise = rng.normal(0, 6, (size[1], size[0], 3))
        varied = Image.fromarray(np.clip(np.asarray(part) + noise, 0, 255).astype(np.uint8))
        written.append(folder / f"{number:05}.jpg")
        varied.save(written[-1], quality=QUALITY)
    return written
