"""Measures the distances between near-duplicates of real photos, and from which distance on other photos match too.

    python benchmarks/bench_duplicates.py --photos TAR [--sizes 96,128,160,224,320,448] [--out FILE.json]

Each photo of the tar is changed in the ways in which copies of images differ: encoded again, scaled, cropped, made
brighter or darker, and all of these together. A pair is right if both images come from one photo. For each distance,
recall is the share of the changed images that are within it of their photo (for each change), and precision is the
share of the pairs within it that are right. Photos that the collection holds twice, or nearly so, count as wrong pairs.

The threshold of a recipe, which `duplicates` uses by default, is the greatest distance at which at least 99 of 100
pairs are right. Without trained weights of fc1, vgg16-fc1 is measured with a random fc1 on Oxford's convolutions.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import measure
import numpy as np
import photos
from PIL import Image, ImageEnhance

from imgindex.recipe import OXFORD_MEAN, OXFORD_STD

DISTANCES = [round(0.05 * step, 2) for step in range(1, 19)]
PRECISION = 0.99
STEP = 0.01
BATCH = 16

Change = Callable[[Image.Image], bytes]


def jpeg(picture: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def scaled(picture: Image.Image, scale: float) -> Image.Image:
    width, height = (max(32, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def crop(picture: Image.Image, share: float) -> Image.Image:
    """Remove this share of the width and of the height, half of it on each side."""
    width, height = picture.size
    x, y = round(width * share / 2), round(height * share / 2)
    return picture.crop((x, y, width - x, height - y))


def bright(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(factor)


CHANGES: dict[str, Change] = {
    "JPEG quality 60": lambda p: jpeg(p, 60),
    "JPEG quality 20": lambda p: jpeg(p, 20),
    "half as large": lambda p: jpeg(scaled(p, 0.5)),
    "twice as large": lambda p: jpeg(scaled(p, 2)),
    "5 % cut off": lambda p: jpeg(crop(p, 0.05)),
    "10 % cut off": lambda p: jpeg(crop(p, 0.1)),
    "20 % brighter": lambda p: jpeg(bright(p, 1.2)),
    "20 % darker": lambda p: jpeg(bright(p, 0.8)),
    "half, 5 % cut, 10 % brighter, quality 60": lambda p: jpeg(bright(scaled(crop(p, 0.05), 0.5), 1.1), 60),
}


def embedded(encoder: Any, files: list[bytes], change: Callable[[bytes], bytes] = bytes) -> np.ndarray:
    """Return the vectors of files, each changed first, as `add` makes them."""
    from imgindex.decoding.decode import decode
    from imgindex.decoding.lookahead import map_in_streams
    from imgindex.decoding.transforms import draft, prepare

    recipe = encoder.recipe
    with ThreadPoolExecutor() as pool:
        prepared = pool.map(lambda data: prepare(decode(change(data), draft=draft(recipe)).image, recipe), files)
        pixels = np.stack(list(prepared))
    batches = [pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH)]
    return np.concatenate(list(map_in_streams(encoder, encoder.encode, batches)))


@dataclass(frozen=True)
class Measured:
    """The distances of the changed images to their photos, by change; those of all pairs; and which pairs are right."""

    apart: dict[str, np.ndarray]
    distances: np.ndarray
    right: np.ndarray
    nearest_other: np.ndarray

    def at(self, distance: float) -> dict[str, Any]:
        """Return recall by change, and precision among all pairs, for a distance."""
        within = self.distances <= distance
        return {
            "distance": distance,
            "recall": float(np.mean([(found <= distance).mean() for found in self.apart.values()])),
            "precision": float(self.right[within].mean()) if within.any() else 1.0,
            "photos_with_another_so_near": int((self.nearest_other <= distance).sum()),
            **{name: float((found <= distance).mean()) for name, found in self.apart.items()},
        }

    def threshold(self) -> float:
        """Return the greatest distance, in hundredths, up to which the precision is never below the bound."""
        steps = [round(STEP * step, 2) for step in range(1, 1 + round(DISTANCES[-1] / STEP))]
        return max(takewhile(lambda distance: self.at(distance)["precision"] >= PRECISION, steps))


def measured(originals: np.ndarray, changed: dict[str, np.ndarray]) -> Measured:
    apart = {name: np.linalg.norm(vectors - originals, axis=1) for name, vectors in changed.items()}
    everything = np.concatenate([originals, *changed.values()])
    photo = np.tile(np.arange(len(originals)), 1 + len(changed))
    pairs: list[np.ndarray] = []
    for row in range(len(everything)):
        distances = np.linalg.norm(everything[row + 1 :] - everything[row], axis=1)
        near = distances <= DISTANCES[-1]
        pairs.append(np.stack([distances[near], photo[row + 1 :][near] == photo[row]]))
    distances, right = np.concatenate(pairs, axis=1)
    between = np.linalg.norm(originals[:, None] - originals, axis=2)
    np.fill_diagonal(between, np.inf)
    return Measured(apart, distances, right, between.min(axis=1))


def encoders(sizes: list[int], folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield vgg16-pool5 at each size, efficientnet-lite2, and vgg16-fc1 with a random fc1, with their names."""
    from imgindex import Engine
    from imgindex.encoders.registry import choose_recipe, network_module
    from imgindex.encoders.vgg.encoder import make_encoder

    for size in sizes:
        choice = choose_recipe("vgg16-pool5", size=size)
        yield f"vgg16-pool5 at {size} px", make_encoder(choice.recipe, choice.weights, Engine())
    choice = choose_recipe("efficientnet-lite2")
    yield (
        "efficientnet-lite2",
        network_module(choice.recipe.network).make_encoder(choice.recipe, choice.weights, Engine()),
    )
    choice = choose_recipe("vgg16-fc1", weights=str(with_random_fc1(folder)))
    # These convolutions expect pixels that are normalised as Oxford's.
    recipe = replace(choice.recipe, mean=OXFORD_MEAN, std=OXFORD_STD)
    yield "vgg16-fc1, with a random fc1", make_encoder(recipe, choice.weights, Engine())


def with_random_fc1(folder: Path) -> Path:
    """Write Oxford's convolutions with an fc1 of torchvision's initialisation as a file of weights."""
    import torch
    from safetensors.torch import load_file, save_file

    from imgindex.encoders.weights import shipped_path

    torch.manual_seed(0)
    tensors = load_file(shipped_path())
    tensors["classifier.0.weight"] = torch.empty(4096, 25088).normal_(0, 0.01).half()
    tensors["classifier.0.bias"] = torch.zeros(4096).half()
    save_file(tensors, folder / "random_fc1.safetensors")
    return folder / "random_fc1.safetensors"


def main() -> None:
    """Read the command line, change the photos, print the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a tar of photos, CLASS/FILE")
    parser.add_argument("--sizes", default="96,128,160,224,320,448")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    from imgindex.decoding.decode import decode

    rows, thresholds = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = list(photos.labelled(options.photos, Path(folder)))
        originals = [path.read_bytes() for path in files]
        for name, encoder in encoders(list(map(int, options.sizes.split(","))), Path(folder)):
            changed = {
                change: embedded(encoder, originals, lambda data, make=make: make(decode(data).image))  # type: ignore[misc]
                for change, make in CHANGES.items()
            }
            plain = embedded(encoder, originals)
            found = measured(plain, changed)
            rows += [{"recipe": name, **found.at(distance)} for distance in DISTANCES]
            thresholds.append({"recipe": name, **found.at(found.threshold())})
    extra = {"photos": len(originals), "changes": len(CHANGES), "thresholds": thresholds}
    measure.report("duplicates", rows, options.out, **extra)


if __name__ == "__main__":
    main()
