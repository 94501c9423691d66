"""Measures `add --ray local` against `add` on the same files, on this machine.

    python benchmarks/bench_ray.py [--images 1000] [--size 160] [--rounds 3] [--out FILE.json]

`images_per_second`: from the first images that are recorded to the last, so without the start of Ray, of its workers
and of the network, which `start_seconds` has. The rounds of both take turns; each figure is that of the best round.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import measure
import numpy as np
from PIL import Image
from sample_images import write

from imgindex import ImageIndex
from imgindex.types import Progress

DRAWN = 50
CONTENDERS = {"imgindex": None, "imgindex --ray local": "local"}


def draw(folder: Path, count: int) -> None:
    """Write so many JPEGs of 500 × 375, no two of them alike: parts of a few drawn ones, which take long to draw."""
    with tempfile.TemporaryDirectory() as drawn:
        write(drawn, DRAWN, 0)
        pictures = [Image.open(path).convert("RGB") for path in sorted(Path(drawn).glob("*.jpg"))]
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        picture = pictures[number % len(pictures)]
        left, top = (int(random.integers(length // 4)) for length in picture.size)
        part = picture.crop((left, top, left + picture.width * 3 // 4, top + picture.height * 3 // 4))
        part.resize((500, 375)).save(folder / f"{number}.jpg", quality=90)


def add(folder: Path, index: Path, size: int, ray: str | None) -> dict[str, float]:
    """Add a folder to a new index; return the rate, and the seconds before the first images."""
    seen: list[tuple[float, int]] = []

    def watch(progress: Progress) -> None:
        if progress.stage == "embed" and progress.done > (seen[-1][1] if seen else 0):
            seen.append((time.perf_counter(), progress.done))

    with ImageIndex.create(index, recipe="vgg16-pool5", size=size) as made:
        started = time.perf_counter()
        report = made.add(folder, ray=ray, on_progress=watch)
        assert report.added == report.found, report
    (first, before), (last, after) = seen[0], seen[-1]
    return {"images_per_second": (after - before) / (last - first), "start_seconds": first - started}


def main() -> None:
    """Read the command line, measure both, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", metavar="FILE.json")
    arguments = parser.parse_args()
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        draw(folder, arguments.images)
        for number in range(arguments.rounds):
            for contender, ray in CONTENDERS.items():
                found = add(folder, Path(temporary) / f"{number} {contender}", arguments.size, ray)
                before = best.get(contender)
                if before is None or found["images_per_second"] > before["images_per_second"]:
                    best[contender] = found
    plain = best["imgindex"]["images_per_second"]
    rows = [
        {"contender": contender, **found, "share_of_plain": found["images_per_second"] / plain}
        for contender, found in best.items()
    ]
    facts = {"images": arguments.images, "size": arguments.size, "rounds": arguments.rounds}
    measure.report("ray", rows, arguments.out, **facts)


if __name__ == "__main__":
    main()
