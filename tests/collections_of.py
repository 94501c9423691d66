"""Collections for the tests of curating: indexes of vectors without pictures, and pictures that one can turn."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
from grid_mean import GridMean
from pictures import draw
from PIL import Image
from textures import encoded, textured, write

from imgindex import ImageIndex
from imgindex.storage.records import NewImage
from imgindex.types import FoundFile


def of_vectors(where: Path, vectors: np.ndarray, contents: list[int] | None = None) -> ImageIndex:
    """An index with these vectors (n, 12), of files `0.png` … that are not there; equal contents are equal bytes."""
    index = ImageIndex.create(where, encoder=GridMean())
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
    """Two copies of a picture, a larger one, a turned and a mirrored one; another picture alone, and a grey one."""
    pictures, original = folder / "p", textured(1, (96, 96))
    write(pictures / "a/red.png", original)
    (pictures / "b").mkdir()
    shutil.copy(pictures / "a/red.png", pictures / "b/copy.png")
    write(pictures / "larger.png", original.resize((192, 192)))
    write(pictures / "turned.png", original.transpose(Image.Transpose.ROTATE_270))
    write(pictures / "mirrored.png", original.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    write(pictures / "other.png", textured(2, (96, 96)))
    draw(pictures / "alone.png", (128, 128, 128))
    for name, time in (("a/red", 3000), ("b/copy", 2000), ("larger", 5000), ("turned", 4000), ("mirrored", 4000)):
        os.utime(pictures / f"{name}.png", (time, time))
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
    """A training set and a test set, in which one stands as a copy, and one twice: compressed, and smaller."""
    for number in range(4):
        write(folder / "train" / f"{number}.png", textured(number))
        write(folder / "test" / f"{number}.png", textured(20 + number))
    shutil.copy(folder / "train/1.png", folder / "test/copy.png")
    write(folder / "test/compressed.png", encoded(textured(2), 60))
    write(folder / "test/sub/2.png", textured(2).resize((120, 90)))
    return indexed(folder, folder / "train", folder / "test")


def picture_and_grey(folder: Path) -> ImageIndex:
    """An index of one picture and a grey one, in the folder `known`."""
    write(folder / "known/original.png", textured(1, (96, 96)))
    draw(folder / "known/grey.png", (128, 128, 128))
    return indexed(folder, folder / "known")


def incoming_files(folder: Path) -> Path:
    """Beside `known`: a file with the same bytes, a larger copy, a turned one, a new one, and no picture."""
    incoming, original = folder / "incoming", textured(1, (96, 96))
    write(incoming / "larger.png", original.resize((192, 192)))
    write(incoming / "turned.png", original.transpose(Image.Transpose.ROTATE_270))
    draw(incoming / "white.png", (255, 255, 255))
    shutil.copy(folder / "known/original.png", incoming / "copy.png")
    (incoming / "broken.png").write_bytes(b"no picture")
    return incoming


def indexed(folder: Path, *roots: Path) -> ImageIndex:
    """An index of these folders, open, in the folder; its encoder takes the means of a grid."""
    index = ImageIndex.create(folder / "it.imgindex", encoder=GridMean())
    index.add(list(roots))
    return index
