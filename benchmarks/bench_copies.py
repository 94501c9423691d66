"""Measures which changed copies of photos are found as copies, and whether any other pictures are.

    python benchmarks/bench_copies.py --photos TAR [--count 40] [--size N] [--out FILE.json]

An index is made of photos, of changed copies of each, and of pictures that look alike and are not the same
(lookalikes.py). `duplicates` then groups them. Recall is the share of the copies with a change that are in a group with
their photo. A wrong pair is one in a group whose images are not of one photo; the tar must not hold a photo twice.
`within` is the share of the copies whose vector is within the calibrated distance of their photo's.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import lookalikes
import measure
import numpy as np
import photos
from bench_duplicates import Change, bright, crop, jpeg, scaled
from PIL import Image, ImageDraw, ImageFont, ImageOps

# The longer side in pixels that a photo must have: smaller ones have nothing left at a quarter of their size.
LEAST_SIDE = 150


def text_across(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    written, font = picture.copy(), ImageFont.load_default(max(10, width // 9))
    ImageDraw.Draw(written).text(
        (width // 20, height // 2 - height // 14),
        "SAMPLE TEXT 2026",
        "white",
        font,
        stroke_width=1,
        stroke_fill="black",
    )
    return written


def screenshot(picture: Image.Image) -> Image.Image:
    """Show the picture on a telephone's black screen, with a clock and a bar."""
    screen, scale = Image.new("RGB", (540, 1170), "black"), min(540 / picture.width, 900 / picture.height)
    shown = scaled(picture, scale)
    screen.paste(shown, ((540 - shown.width) // 2, (1170 - shown.height) // 2))
    pen, font = ImageDraw.Draw(screen), ImageFont.load_default(24)
    pen.text((20, 14), "12:45", "white", font)
    pen.text((440, 14), "84 %", "white", font)
    pen.rectangle((200, 1150, 340, 1156), fill="white")
    return screen


def rotated(picture: Image.Image, degrees: float) -> Image.Image:
    return picture.rotate(degrees, Image.Resampling.BICUBIC, fillcolor="white")


CHANGES: dict[str, Change] = {
    "JPEG quality 60": lambda p: jpeg(p, 60),
    "JPEG quality 20": lambda p: jpeg(p, 20),
    "twice as large": lambda p: jpeg(scaled(p, 2)),
    "half as large": lambda p: jpeg(scaled(p, 0.5)),
    "a quarter as large": lambda p: jpeg(scaled(p, 0.25)),
    "5 % cut off": lambda p: jpeg(crop(p, 0.05)),
    "10 % cut off": lambda p: jpeg(crop(p, 0.1)),
    "20 % cut off": lambda p: jpeg(crop(p, 0.2)),
    "20 % brighter": lambda p: jpeg(bright(p, 1.2)),
    "20 % darker": lambda p: jpeg(bright(p, 0.8)),
    "greyscale": lambda p: jpeg(p.convert("L").convert("RGB")),
    "text across": lambda p: jpeg(text_across(p)),
    "black border": lambda p: jpeg(ImageOps.expand(p, (p.width // 8, p.height // 8), "black")),
    "screenshot": lambda p: jpeg(screenshot(p)),
    "rotated by 3°": lambda p: jpeg(rotated(p, 3)),
}


def write_pictures(archive: Path, count: int, folder: Path) -> None:
    """Write photos, their copies and lookalikes; the name of a file begins with what it shows, and ends with how."""
    usable = [picture for picture in photos.sources(archive, 0) if max(picture.size) >= LEAST_SIDE]
    for number, picture in enumerate(random.Random(0).sample(usable, count)):
        (folder / f"photo {number:03}+.jpg").write_bytes(jpeg(picture, 95))
        for name, change in CHANGES.items():
            (folder / f"photo {number:03}+{name}.jpg").write_bytes(change(picture))
    for kind, number, picture in lookalikes.each():
        picture.save(folder / f"{kind} {number}+.png")


def shown(path: str) -> str:
    return Path(path).stem.partition("+")[0]


def main() -> None:
    """Read the command line, make the pictures and the index, print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a tar of photos, CLASS/FILE")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--size", type=int)
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    from imgindex import ImageIndex
    from imgindex.curation.thresholds import calibrated

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "pictures"
        folder.mkdir()
        write_pictures(options.photos, options.count, folder)
        with ImageIndex.create(Path(name) / "it.imgindex", recipe="vgg16-pool5", size=options.size) as index:
            index.add(folder)
            started, before = time.perf_counter(), measure.processor_seconds()
            found = index.duplicates()
            seconds, used = time.perf_counter() - started, measure.processor_seconds() - before
            started = time.perf_counter()
            index.duplicates()
            again = time.perf_counter() - started
            within, side = calibrated(index.recipe), index.recipe.side
            vectors = {Path(path).stem: vector for path, vector in zip(index.paths(), index.vectors(), strict=True)}
    group_of = {one.path: number for number, group in enumerate(found.groups) for one in group.images}
    by_name = {Path(path).stem: group for path, group in group_of.items()}
    rows: list[dict[str, Any]] = []
    for change in CHANGES:
        names = [f"photo {number:03}+" for number in range(options.count)]
        copies = [(name, name + change) for name in names]
        together = [by_name.get(a, -1) == by_name.get(b, -2) for a, b in copies]
        apart = [float(np.linalg.norm(vectors[a] - vectors[b])) for a, b in copies]
        rows.append({
            "change": change,
            "copies_found": float(np.mean(together)),
            "within_the_distance": float(np.mean(np.array(apart) <= within)),
        })  # fmt: skip
    wrong: Counter[str] = Counter()
    for group in found.groups:
        for a, b in combinations({shown(one.path) for one in group.images}, 2):
            wrong[a.rpartition(" ")[0]] += 1
            print("wrong:", a, b)
    kinds = ["photo", *lookalikes.KINDS]
    extra = {
        "photos": options.count,
        "side": side,
        "recall": float(np.mean([row["copies_found"] for row in rows])),
        "recall_within_the_distance": float(np.mean([row["within_the_distance"] for row in rows])),
        "wrong_pairs": sum(wrong.values()),
        "compared_pairs": found.compared,
        "ms_a_pair": 1000 * seconds / max(1, found.compared),
        "processor_ms_a_pair": 1000 * used / max(1, found.compared),
        "seconds_again": again,
        "groups": [
            {"kind": kind, "pictures": _count(kind, options.count), "wrong_pairs": wrong[kind]} for kind in kinds
        ],
    }
    measure.report("copies", rows, options.out, **extra)


def _count(kind: str, photos: int) -> int:
    return photos if kind == "photo" else lookalikes.EACH


if __name__ == "__main__":
    main()
