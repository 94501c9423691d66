"""Measures decoding: from the bytes of image files to the square that the network sees, beside other libraries.

    python benchmarks/bench_decode.py [--size fast|regular] [--side 224] [--rounds 5] [--photos TAR]
                                      [--out FILE.json]

The images are seeded noise, more coarse than fine as in photographs: JPEGs of 500 × 375 and of 12 megapixels, PNG and
WebP. Every contender scales the whole image to `--side` pixels. Each has one thread, except the last, which has as many
decoder processes as `add` uses. Every round runs every contender once, in turn. CPU time is that of this process and of
the decoders; the time of this process alone is in its own column. The difference is that of the pixels from Pillow's,
of 255.

With labelled photos, as JPEGs of 500 pixels, a second table compares the vectors (fp32) and the answers with those of
pictures that Pillow scales: the least cosine between the two vectors of a photo, the share of its ten nearest that
stay, and the scores as bench_recipes.py has them.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import get_args

import measure
import numpy as np
from PIL import Image

from imgindex.decoding.decode import decode
from imgindex.decoding.lookahead import map_ahead, worker_count
from imgindex.decoding.pool import DecoderPool
from imgindex.decoding.sizes import scaled_size
from imgindex.decoding.transforms import draft, prepare
from imgindex.recipe import Recipe, Scaling, get_recipe

# How many images of each kind: few large ones, which take long.
SIZES = {"fast": (40, 4), "regular": (400, 24)}
SMALL, LARGE = (500, 375), (4000, 3000)
# Recipes and sides whose answers are compared, with labelled photos.
COMPARED = (("vgg16-pool5", 160), ("vgg16-pool5", 224), ("vgg16-pool5", 320), ("efficientnet-lite2", None))
DIFFERENT = 8
CLOCK_TICK = os.sysconf("SC_CLK_TCK")

Files = list[bytes]


@dataclass(frozen=True)
class Contender:
    """A way to decode files: run() returns the squares."""

    name: str
    run: Callable[[Files], list[np.ndarray]]


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Return an image with detail of every size."""
    rng = np.random.default_rng(seed)
    mixed = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for level in range(2, max(size).bit_length()):
        layer = Image.fromarray(rng.integers(0, 256, (2**level, 2**level, 3), dtype=np.uint8))
        scaled = layer.resize(size, Image.Resampling.BILINEAR)
        mixed += (np.asarray(scaled, dtype=np.float32) - 128) * 0.6**level * 3
    return Image.fromarray(np.clip(mixed + 128, 0, 255).astype(np.uint8))


def make_files(small: int, large: int) -> dict[str, Files]:
    """Return the files of each kind, a few different ones repeated."""

    def files(format: str, size: tuple[int, int], count: int, **options: int) -> Files:
        different = []
        for seed in range(min(DIFFERENT, count)):
            data = io.BytesIO()
            picture(size, seed).save(data, format, **options)
            different.append(data.getvalue())
        return (different * (count // len(different) + 1))[:count]

    return {
        "JPEG 500 × 375": files("JPEG", SMALL, small, quality=90),
        "JPEG 12 megapixels": files("JPEG", LARGE, large, quality=90),
        "PNG 500 × 375": files("PNG", SMALL, small),
        "WebP 500 × 375": files("WEBP", SMALL, small, quality=80),
    }


def pillow(files: Files, side: int) -> list[np.ndarray]:
    """Decode in full, then scale."""
    squares = []
    for data in files:
        with Image.open(io.BytesIO(data)) as opened:
            scaled = opened.convert("RGB").resize(scaled_size(opened.size, side), Image.Resampling.BILINEAR)
        squares.append(np.asarray(scaled))
    return squares


def opencv(files: Files, side: int) -> list[np.ndarray]:
    """Decode in full, then scale by area, which OpenCV recommends for making images smaller."""
    import cv2

    cv2.setNumThreads(1)
    squares = []
    for data in files:
        full = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        scaled = cv2.resize(full, scaled_size((full.shape[1], full.shape[0]), side), interpolation=cv2.INTER_AREA)
        squares.append(scaled[:, :, ::-1])
    return squares


def torchvision(files: Files, side: int) -> list[np.ndarray]:
    """Decode in full, then scale with torchvision's antialiased resize."""
    import torch
    from torchvision import io as pictures
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)
    squares = []
    for data in files:
        full = pictures.decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), pictures.ImageReadMode.RGB)
        width, height = scaled_size((full.shape[2], full.shape[1]), side)
        squares.append(functional.resize(full, [height, width], antialias=True).permute(1, 2, 0).numpy())
    return squares


def in_process(files: Files, recipe: Recipe) -> list[np.ndarray]:
    """Do in this process what a decoder process does."""
    return [prepare(decode(data, draft=draft(recipe)).image, recipe) for data in files]


def in_processes(files: Files, decoders: DecoderPool, workers: int) -> list[np.ndarray]:
    """Do what `add` does after it has read the files."""
    with ThreadPoolExecutor(workers) as pool:
        return [decoded.pixels for decoded in map_ahead(pool, decoders.decode, files, depth=2 * workers)]


def seconds_of_children() -> float:
    """Return the CPU time so far of the child processes that are still alive (Linux)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # the process has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12]) if int(fields[1]) == os.getpid() else 0
    return total / CLOCK_TICK


def measure_kind(kind: str, files: Files, contenders: list[Contender], rounds: int) -> Iterator[measure.Row]:
    """Run every contender on the files of one kind."""
    runs: dict[str, list[tuple[float, float, float]]] = {one.name: [] for one in contenders}
    squares: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for one in contenders:
            there, before = seconds_of_children(), time.process_time()
            elapsed, found = measure.timed(lambda one=one: one.run(files))
            here = time.process_time() - before
            squares[one.name] = inside(found[0], squares.get("Pillow"))
            if number:
                runs[one.name].append((elapsed, here + seconds_of_children() - there, here))
    base = runs["Pillow"]
    for one in contenders:
        elapsed, busy, here = (statistics.median(column) for column in zip(*runs[one.name], strict=True))
        ratios = [full[1] / run[1] for full, run in zip(base, runs[one.name], strict=True)]
        difference = np.abs(squares[one.name].astype(int) - squares["Pillow"]).mean()
        yield {
            "files": kind,
            "contender": one.name,
            "images_per_second": len(files) / elapsed,
            "megabytes_per_second": sum(map(len, files)) / elapsed / 1e6,
            "ms_of_processor": busy / len(files) * 1000,
            "ms_in_this_process": here / len(files) * 1000,
            "times_less_than_pillow": statistics.median(ratios),
            "difference": float(difference),
            "all_seconds": [round(run[0], 4) for run in runs[one.name]],
        }


def inside(square: np.ndarray, like: np.ndarray | None) -> np.ndarray:
    """Return the image without the border of the letterbox, which other contenders do not draw."""
    if like is None or square.shape == like.shape:
        return square
    top, left = ((have - want) // 2 for have, want in zip(square.shape, like.shape[:2], strict=False))
    return square[top : top + like.shape[0], left : left + like.shape[1]]


def answers(archive: Path, compared: Sequence[tuple[str, int | None]]) -> list[measure.Row]:
    """Return what the scaling changes in the answers of each recipe and side."""
    import bench_recipes
    from bench_precision import overlap

    from imgindex import Engine
    from imgindex.encoders.registry import choose_recipe, make_encoder

    photos = bench_recipes.read(archive)
    files = [jpeg(photo) for photo in photos.white]
    rows: list[measure.Row] = []
    for name, side in compared:
        recipe = choose_recipe(name, size=side).recipe
        encoder = make_encoder(recipe, {}, None, Engine("cpu", "fp32"))
        of_pillow: np.ndarray | None = None
        for scaling in get_args(Scaling):
            squares = in_process(files, replace(recipe, scaling=scaling))
            vectors = np.concatenate([encoder.encode(np.stack(squares[at : at + 4])) for at in range(0, len(files), 4)])
            of_pillow = vectors if of_pillow is None else of_pillow
            scores = bench_recipes.score([vectors], photos.labels)
            cosines = (vectors * of_pillow).sum(axis=1)
            rows.append(
                {
                    "recipe": name,
                    "side": recipe.side,
                    "scaling": scaling,
                    "least_cosine": f"{cosines.min():.6f}",
                    "median_cosine": f"{np.median(cosines):.6f}",
                    "same_of_10_nearest": overlap(vectors, of_pillow),
                    **{score: scores[score] for score in ("p_at_1", "map", "nmi")},
                }
            )
    return rows


def jpeg(photo: Image.Image) -> bytes:
    """Return a photo as a JPEG of 500 pixels."""
    file = io.BytesIO()
    photo.resize(scaled_size(photo.size, max(SMALL)), Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def main() -> None:
    """Read the command line, run the rounds on each kind of file, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="regular")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photos", type=Path, help="a tar of labelled photos, CLASS/FILE")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    recipe, workers = get_recipe("vgg16-pool5", size=options.side), worker_count(None)
    rows: list[measure.Row] = []
    with closing(DecoderPool(recipe)) as single, closing(DecoderPool(recipe)) as several:
        ours = {"one process": (single, 1), f"{workers} processes": (several, workers)}
        contenders = [
            Contender("Pillow", partial(pillow, side=options.side)),
            Contender("OpenCV", partial(opencv, side=options.side)),
            Contender("torchvision", partial(torchvision, side=options.side)),
            Contender("imgindex, in this process", partial(in_process, recipe=recipe)),
            *(
                Contender(f"imgindex, {name}", partial(in_processes, decoders=decoders, workers=count))
                for name, (decoders, count) in ours.items()
            ),
        ]
        for kind, files in make_files(*SIZES[options.size]).items():
            rows += measure_kind(kind, files, contenders, options.rounds)
    found = answers(options.photos, COMPARED) if options.photos else []
    context = {"size": options.size, "side": options.side, "rounds": options.rounds}
    measure.report("decode", rows, options.out, answers=found, **context)
    if found:
        print()
        measure.report("answers", found, None)


if __name__ == "__main__":
    main()
