"""Measures embedding from files to index against the article's loop on the same files, in the same run.

    python benchmarks/bench_embed.py [--images 24] [--rounds 3] [--device auto] [--precision auto] [--out FILE.json]

The article's loop is the script that imgindex began as: OpenCV reads one image, torchvision crops and scales it, VGG-16
up to its first fully connected layer makes a vector of it, one image a batch, in fp32. Weights are seeded and random:
they do not change how long anything takes. Every round runs every contender once, in turn; the making of networks and
of the index is not counted. Beside each rate stands how near its vectors come to those of the article's loop.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import measure
import numpy as np
import sample_images

from imgindex import Engine, ImageIndex

SEED = 7
WEIGHTS = f"random:{SEED}"


@dataclass(frozen=True)
class Contender:
    """A way to embed a folder: run() returns the vectors in the order of the files' names."""

    name: str
    run: Callable[[], np.ndarray]
    compared: bool = False


def article_loop(files: list[Path], device: str) -> Callable[[], np.ndarray]:
    """Return the article's script as a function: its network made, its files still to be read."""
    import cv2
    import torch
    from torchvision import models, transforms

    torch.manual_seed(SEED)
    network = models.vgg16(weights=None).eval()
    extractor = torch.nn.Sequential(network.features, network.avgpool, torch.nn.Flatten(), network.classifier[0]).to(
        device
    )
    transform = transforms.Compose(
        [transforms.ToPILImage(), transforms.CenterCrop(512), transforms.Resize(448), transforms.ToTensor()]
    )

    def run() -> np.ndarray:
        features = []
        for file in files:
            image = transform(cv2.imread(str(file))).reshape(1, 3, 448, 448).to(device)
            with torch.no_grad():
                features.append(extractor(image).cpu().detach().numpy().reshape(-1))
        return np.array(features)

    return run


def files_to_index(folder: Path, recipe: str, size: int | None, engine: Engine) -> Contender:
    """Return `add` of a folder into a fresh index, whose embedder is warm, as a contender."""
    weights = WEIGHTS if recipe == "article" else None
    warm = ImageIndex.create(
        tempfile.mkdtemp(dir=folder.parent), recipe=recipe, size=size, weights=weights, engine=engine
    )
    embedder = warm.embedder

    def run() -> np.ndarray:
        where = tempfile.mkdtemp(dir=folder.parent)
        with ImageIndex.create(where, recipe=warm.recipe, weights=weights, engine=engine) as index:
            index.embedder = embedder
            index.add([folder])
            order = np.argsort([Path(path).name for path in index.paths()], kind="stable")
            return index.vectors()[order]

    side = f" at {size} px" if size else ""
    return Contender(f"imgindex, {recipe}{side}, {embedder.precision}", run, recipe == "article")


def relative_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the greatest difference of a vector, in units of the greatest number of the true one."""
    return float((np.abs(found - truth).max(axis=1) / np.abs(truth).max(axis=1)).max())


def main() -> None:
    """Read the command line, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", metavar="FILE.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        files = sorted(folder / name for name in sample_images.write(folder, options.images, seed=SEED))
        engine = Engine(options.device, options.precision)
        make = partial(files_to_index, folder, engine=engine)
        contenders = [make("article", None), make("vgg16-pool5", 224), make("vgg16-pool5", 160)]
        base = Contender("the article's loop, fp32, one by one", article_loop(files, engine_device(engine)))
        measure_all(base, contenders, options)


def engine_device(engine: Engine) -> str:
    """Return the device that an engine computes on."""
    from imgindex.embedding.device import choose_device

    return str(choose_device(engine.device))


def measure_all(base: Contender, contenders: list[Contender], options: argparse.Namespace) -> None:
    """Time every contender in every round, after one for nothing, and report."""
    seconds: dict[str, list[float]] = {one.name: [] for one in (base, *contenders)}
    errors: dict[str, float | None] = {}
    for number in range(options.rounds + 1):
        truth = np.empty(0)
        for one in (base, *contenders):
            elapsed, vectors = measure.timed(one.run)
            if one is base:
                truth = vectors
            errors[one.name] = relative_error(vectors, truth) if one.compared else None
            if number:
                seconds[one.name].append(elapsed)
    rows = [
        {
            "contender": name,
            "images_per_second": options.images / statistics.median(runs),
            "times_the_article": statistics.median(b / a for a, b in zip(runs, seconds[base.name], strict=True)),
            "relative_error": "" if errors[name] is None else errors[name],
            "all_seconds": [round(run, 3) for run in runs],
        }
        for name, runs in seconds.items()
    ]
    facts = {"images": options.images, "rounds": options.rounds, "peak_mib": round(measure.peak_mib())}
    measure.report("embed", rows, options.out, **facts)


if __name__ == "__main__":
    main()
