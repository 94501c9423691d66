"""Collections for the tests of curating: indexes of vectors without pictures, and pictures that one can turn."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
from grid_mean import GRID_RECIPE, GridMean
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile

RED, GREEN, BLUE, BLACK = (250, 0, 0), (0, 250, 0), (0, 0, 250), (0, 0, 0)
NEAR_RED = (247, 3, 0)


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


def copies_of_one(folder: Path) -> ImageIndex:
    """Two copies of a red picture, one nearly so and larger, one turned and one mirrored; and a grey one alone."""
    pictures = folder / "p"
    quarters(pictures / "a/red.png", RED, GREEN, BLUE, BLACK, time=3000)
    (pictures / "b").mkdir()
    shutil.copy(pictures / "a/red.png", pictures / "b/copy.png")
    os.utime(pictures / "b/copy.png", (2000, 2000))
    quarters(pictures / "larger.png", NEAR_RED, GREEN, BLUE, BLACK, side=64, time=5000)
    quarters(pictures / "turned.png", BLUE, RED, BLACK, GREEN, time=4000)
    quarters(pictures / "mirrored.png", GREEN, RED, BLACK, BLUE, time=4000)
    draw(pictures / "alone.png", (128, 128, 128))
    return indexed(folder, pictures)


def greys_and_two_apart(folder: Path) -> ImageIndex:
    """Twelve shades of grey, a red one far from them, a green one farther; and one grey twice."""
    for number in range(12):
        draw(folder / "p" / f"{number}.png", (100 + number, 100 + number, 100 + number))
    draw(folder / "p/3 again.png", (103, 103, 103), (64, 64))
    draw(folder / "p/red.png", (250, 100, 100))
    draw(folder / "p/green.png", (0, 255, 0))
    return indexed(folder, folder / "p")


def leaking_sets(folder: Path) -> ImageIndex:
    """A training set and a test set, in which one stands as a copy, one nearly so, and one twice."""
    for number in range(4):
        draw(folder / "train" / f"{number}.png", number)
        draw(folder / "test" / f"{number}.png", 20 + number)
    shutil.copy(folder / "train/1.png", folder / "test/copy.png")
    draw(folder / "test/near.png", (2 * 37, 2 * 101, 2 * 211 % 256 - 5))
    draw(folder / "test/sub/2.png", 2, (64, 64))
    return indexed(folder, folder / "train", folder / "test")


def colours_and_grey(folder: Path) -> ImageIndex:
    """An index of one picture of four colours and a grey one, in the folder `known`."""
    quarters(folder / "known/colours.png", RED, GREEN, BLUE, BLACK)
    draw(folder / "known/grey.png", (128, 128, 128))
    return indexed(folder, folder / "known")


def incoming_files(folder: Path) -> Path:
    """Beside `known`: a copy, a near picture, a turned one, a new one, and a file that is not a picture."""
    incoming = folder / "incoming"
    quarters(incoming / "near.png", (240, 0, 0), GREEN, BLUE, BLACK)
    quarters(incoming / "turned.png", BLUE, RED, BLACK, GREEN)
    draw(incoming / "white.png", (255, 255, 255))
    shutil.copy(folder / "known/colours.png", incoming / "copy.png")
    (incoming / "broken.png").write_bytes(b"no picture")
    return incoming


def indexed(folder: Path, *roots: Path) -> ImageIndex:
    """An index of these folders, open, in the folder; its encoder takes the means of a grid."""
    index = ImageIndex.create(folder / "it.imgindex", recipe=GRID_RECIPE)
    index.encoder = GridMean()
    index.add(list(roots))
    return index
