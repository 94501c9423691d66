"""Commits of small images to a store, and what a new reader sees of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from imgindex.storage.records import NewImage
from imgindex.storage.store import Store
from imgindex.storage.verify import check
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile

SETTINGS = {"recipe": "{}", "recipe_digest": "ab" * 32, "dimension": "3", "store": "float32"}


class Died(Exception):
    """What a run dies of here."""


def image(store: Store, name: str, number: int = 0) -> NewImage:
    file = FoundFile(os.path.join(os.path.dirname(store.path), name), 100 + number, 10**18 + number)
    return NewImage(file, bytes([number]) * 32, 32, 32, "PNG")


def vector(number: int) -> np.ndarray:
    return np.array([number, number / 3, -number], dtype=np.float32)


def put(writer: Writer, store: Store, *numbers: int) -> None:
    for number in numbers:
        writer.put(image(store, f"{number}.png", number), vector(number))


def commit(store: Store, *numbers: int) -> None:
    with store.writing() as writer:
        put(writer, store, *numbers)
        writer.commit()


def commit_with_a_failure(store: Store, *numbers: int) -> None:
    with store.writing() as writer:
        put(writer, store, *numbers)
        writer.fail(Failure("/broken.png", "decode", "broken"))
        writer.commit()


def present(store: Store) -> dict[str, list[float]]:
    """File name → vector of the images that a new reader sees."""
    with contextlib.closing(Store(store.path)) as reader:
        assert check(reader.path, full=True).ok
        images = list(reader.catalogue.images())
        vectors = reader.vectors([image.id for image in images])
        return {os.path.basename(i.path): v.tolist() for i, v in zip(images, vectors, strict=True)}


def expected(*numbers: int) -> dict[str, list[float]]:
    return {f"{number}.png": vector(number).tolist() for number in numbers}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code that may import this file in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def segment(store: Store, number: int = 1) -> Path:
    return Path(store.segments.path(number))
