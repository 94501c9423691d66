"""Measures how long `duplicates` takes to grade groups of copies: real files, and vectors that were made up.

    python benchmarks/bench_groups.py [--groups 100 200 …] [--copies 10] [--out FILE.json]

Each group is a small picture of its own, encoded as JPEG in several qualities. A stand-in for the network
makes vectors of coarse colours, so that nothing is embedded; all else is what `add` and `duplicates` do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np
from PIL import Image

from imgindex import ImageIndex
from imgindex.types import Pixels, Progress, Vectors

SIDE = 96


class MadeUp:
    """An encoder whose vectors depend on the coarse colours of a picture alone, through a random projection."""

    batch_size, streams, precision, device = 64, 1, "fp32", "cpu"

    def __init__(self, dimension: int) -> None:
        self._projection = np.random.default_rng(0).standard_normal((192, dimension)).astype(np.float32)

    def encode(self, batch: Pixels) -> Vectors:
        small = np.stack([np.asarray(Image.fromarray(one).resize((8, 8), Image.Resampling.BOX)) for one in batch])
        vectors = (small.reshape(len(small), -1).astype(np.float32) - 128) @ self._projection
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit

    def fp32(self) -> MadeUp:
        return self


def picture(number: int) -> Image.Image:
    """Return a picture with coarse and fine structure that no other number has."""
    dice = np.random.default_rng(number)
    layers = [dice.integers(0, 256, (cells, cells, 3), dtype=np.uint8) for cells in (4, 12, 32)]
    scaled = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in layers]
    mixed = np.tensordot([0.5, 0.3, 0.2], np.stack(scaled).astype(np.float32), 1)
    return Image.fromarray(np.clip((mixed - 128) * 1.5 + 128, 0, 255).astype(np.uint8))


def write_pictures(folder: Path, groups: int, copies: int) -> None:
    for number in range(groups):
        original = picture(number)
        for copy in range(copies):
            original.save(folder / f"{number:05} {copy}.jpg", "JPEG", quality=95 - 3 * copy)


def grade(groups: int, copies: int) -> dict[str, Any]:
    """Return what grading so many groups of so many copies took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        write_pictures(folder, groups, copies)
        with ImageIndex.create(Path(name) / "it.imgindex", recipe="vgg16-pool5", size=SIDE) as index:
            index._encoder = MadeUp(index.recipe.dimension)
            index.add(folder)
            steps, ends = {}, [time.perf_counter()]

            def note(progress: Progress) -> None:
                """Add the time since the last report to the step that it is about."""
                ends.append(time.perf_counter())
                steps[progress.stage] = steps.get(progress.stage, 0.0) + ends[-1] - ends.pop(0)

            started, before = ends[0], measure.processor_seconds()
            found = index.duplicates(on_progress=note)
            wall, used = time.perf_counter() - started, measure.processor_seconds() - before
    return {
        "groups": groups,
        "images": groups * copies,
        "compared_pairs": found.compared,
        "found": len(found.groups),
        "found_whole": sum(len(group.images) == copies for group in found.groups),
        "processor_seconds": used,
        "seconds": wall,
        "load": os.getloadavg()[0],
        "steps": [{"step": step, "seconds": took} for step, took in steps.items()],
    }


def main() -> None:
    """Read the command line, make the pictures and the indexes, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[100], help="one or several numbers of groups")
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    rows = [grade(groups, options.copies) for groups in options.groups]
    measure.report("groups", rows, options.out, copies=options.copies, side=SIDE)


if __name__ == "__main__":
    main()
