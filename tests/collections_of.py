"""Collections for the tests of curating: indexes of vectors without pictures, and pictures that one can turn."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from grid_mean import GRID_RECIPE, GridMean
from PIL import Image

from imgindex import ImageIndex
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile


def of_vectors(where: Path, vectors: np.ndarray, contents: list[int] | None = None) -> ImageIndex:
    """An index with these vectors (n, 12), of files `0.png` … that are not there; equal contents are equal bytes."""
    index = ImageIndex.create(where, recipe=GRID_RECIPE)
    index.encoder = GridMean()
    with index._store.writing() as writer:
        for number, vector in enumerate(vectors):
            content = number if contents is None else contents[number]
            file = FoundFile(str(where.parent / f"{number}.png"), 100, number)
            sha256 = hashlib.sha256(str(content).encode()).digest()
            writer.put(NewImage(file, sha256, 32, 32, "PNG"), vector.astype(np.float32))
        writer.commit()
    return index


def numbers(paths: list[str]) -> list[int]:
    """The numbers that the files are called by."""
    return sorted(int(Path(path).stem) for path in paths)


def quarters(path: Path, *colours: tuple[int, int, int], side: int = 32, time: int | None = None) -> Path:
    """Draw a picture with a colour in each quarter: top left, top right, bottom left, bottom right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.array(colours, dtype=np.uint8).reshape(2, 2, 3).repeat(side // 2, axis=0).repeat(side // 2, axis=1)
    Image.fromarray(pixels).save(path)
    if time is not None:
        os.utime(path, (time, time))
    return path
