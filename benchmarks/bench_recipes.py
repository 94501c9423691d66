"""Measures the choices inside the recipes on labelled photos: geometry, side, pooling, resampling, pixels.

    python benchmarks/bench_recipes.py --photos photos.tar --out recipes.json --markdown recipes.md

Answers are scored leave-one-out by Euclidean distance. P@1: the nearest other photo is of the same class. mAP: mean
average precision with all other photos ranked. NMI: k-means with as many clusters as there are classes. The interval of
P@1 and of the difference in mAP is a 95 % bootstrap over the queries, with the collection held fixed. It is not valid
for other collections. If the interval of a difference contains 0, these photos do not distinguish the two rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import measure
import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, linear, normalize

from imgindex.decoding.decode import decode
from imgindex.decoding.transforms import prepare
from imgindex.encoders.output import finish
from imgindex.encoders.registry import choose_recipe, make_encoder
from imgindex.encoders.vgg.layers import LAYERS, shapes
from imgindex.encoders.vgg.network import generalised_mean
from imgindex.encoders.weights import load_weights, locate_weights
from imgindex.recipe import IMAGENET_MEAN, IMAGENET_STD, OXFORD_MEAN, OXFORD_STD, RECIPES, get_recipe
from imgindex.types import Engine

OURS = RECIPES["vgg16-pool5"]
# GeM less the mean of photographs, as the recipe subtracts it.
LESS_MEAN = "gem less mean"
ARTICLE = RECIPES["article"]
SIDES = (96, 128, 160, 192, 224, 320, 448)
RESAMPLINGS = {name: Image.Resampling[name.upper()] for name in ("bilinear", "bicubic", "lanczos")}
FC1_SEEDS = (0, 1, 2)
KMEANS_SEEDS = range(5)
BATCH = 8
ROUNDS = 3
RESAMPLES = 2000
PER_PHOTO = ("average_precisions",)


@dataclass(frozen=True, slots=True)
class Photos:
    """Labelled photos in memory: `white` with alpha on white, `stored` with alpha dropped, both upright RGB."""

    names: list[str]
    labels: np.ndarray
    white: list[Image.Image]
    stored: list[Image.Image]


@dataclass(frozen=True, slots=True)
class Weights:
    """A network's convolutions and the fc1 layers to try on them.

    unit: one standard deviation of ImageNet's pixels, on the scale of this network's input, so that "no mean/std" is
    the same change for any network as for torchvision's.
    """

    name: str
    features: torch.nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    unit: float
    fc1_name: str
    fc1: Callable[[], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, slots=True)
class Variant:
    """How images become the network's input, and which vectors are taken from that one forward pass.

    geometry: letterbox (on white), crop (short side, then the middle square), short (short side, nothing removed),
    stretch (to the square), article. pixels: mean/std, none (RGB without mean/std), bgr (the same in BGR order).
    """

    geometry: str
    side: int
    vectors: tuple[str, ...] = ("average", "gem")
    pixels: str = "mean/std"
    resampling: str = "bilinear"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, its scores and its cost; intervals are [low, high]."""

    weights: str
    geometry: str
    side: int
    pixels: str
    resampling: str
    vector: str
    dimension: int
    p_at_1: float
    p_at_1_interval: list[float]
    map: float
    nmi: float
    nmi_range: list[float]
    gflop: float
    images_per_second: float | None
    map_less_ours: list[float] = field(default_factory=list)
    average_precisions: list[float] = field(default_factory=list)


def variants(oxford: bool) -> list[Variant]:
    """Return what is measured; for other weights than Oxford's, only what concerns fc1."""
    pools, inside, fc1 = ("average", "gem"), ("average inside", "gem inside"), ("fc1",)
    both = [
        Variant("letterbox", 224, pools + fc1),
        Variant("crop", 224, pools + fc1),
        Variant("short", 224, pools + fc1),
        Variant("letterbox", 448, pools + fc1),
        Variant("short", 448, pools + fc1),
        Variant("article", 448, (*pools, "fc1", "fc1 as is"), pixels="bgr"),
        Variant("letterbox", 224, pools + fc1, pixels="none"),
    ]
    if not oxford:
        return both
    both = [
        replace(variant, vectors=variant.vectors + inside) if variant.geometry == "letterbox" else variant
        for variant in both
    ]
    both = [
        replace(variant, vectors=(*variant.vectors, LESS_MEAN))
        if (variant.geometry, variant.pixels) == ("letterbox", "mean/std")
        else variant
        for variant in both
    ]
    sweep = [Variant("letterbox", side, (*pools, LESS_MEAN, *inside)) for side in SIDES if side not in (224, 448)]
    squares = [Variant("crop", 160), Variant("stretch", 224)]
    ours = ("average", "gem", LESS_MEAN)
    resampled = [Variant("letterbox", OURS.side, ours, resampling=name) for name in RESAMPLINGS if name != "bilinear"]
    return sweep + squares + resampled + both


def read(path: Path) -> Photos:
    """Read CLASS/FILE from a tar file or a folder; the names of the classes only have to differ."""
    if path.is_dir():
        files = {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    else:
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    names = sorted(files)
    labels = np.unique([name.split("/")[-2] for name in names], return_inverse=True)[1]
    white = [decode(files[name], alpha="white").image for name in names]
    return Photos(names, labels, white, [decode(files[name], alpha="drop").image for name in names])


def oxford() -> Weights:
    """Return the shipped convolutions, with several random fc1 layers of torchvision's initialisation."""

    def fc1() -> Iterator[tuple[Tensor, Tensor]]:
        for seed in FC1_SEEDS:
            torch.manual_seed(seed)
            yield torch.empty(4096, 25088).normal_(0, 0.01), torch.zeros(4096)

    network = vgg("oxford", "pool5")
    unit = 255 * statistics.mean(IMAGENET_STD)
    return Weights("oxford", network.features, OXFORD_MEAN, OXFORD_STD, unit, f"fc1 random × {len(FC1_SEEDS)}", fc1)


def trained(path: str) -> Weights:
    """Return a user's weights with their fc1, assumed to be trained with the mean/std of IMAGENET1K_V1."""
    network = vgg(path, "fc1")
    layer = network.classifier[0]
    return Weights(
        Path(path).name,
        network.features,
        IMAGENET_MEAN,
        IMAGENET_STD,
        1.0,
        "fc1 trained",
        lambda: iter([(layer.weight.detach(), layer.bias.detach())]),
    )


def vgg(source: str, layer: str) -> nn.Module:
    """Return torchvision's network with the weights that a layer needs, in fp32."""
    with torch.device("meta"):
        network = torchvision.models.vgg16()
    found = load_weights(locate_weights(source), shapes(layer))
    network.load_state_dict({name: torch.tensor(array) for name, array in found.items()}, strict=False, assign=True)
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def square(picture: Image.Image, variant: Variant) -> np.ndarray:
    """Return RGB pixels as the network sees them, by imgindex's own code where it has the geometry."""
    if variant.geometry in ("letterbox", "article") and variant.resampling == "bilinear":
        recipe = ARTICLE if variant.geometry == "article" else OURS
        return prepare(picture, replace(recipe, side=variant.side, channels="rgb"))
    method, side = RESAMPLINGS[variant.resampling], variant.side
    if variant.geometry == "stretch":
        return np.asarray(picture.resize((side, side), method))
    if variant.geometry == "letterbox":
        scale = side / max(picture.size)
        width, height = (max(1, round(length * scale)) for length in picture.size)
        page = Image.new("RGB", (side, side), "white")
        page.paste(picture.resize((width, height), method), ((side - width) // 2, (side - height) // 2))
        return np.asarray(page)
    scale = side / min(picture.size)
    picture = picture.resize(tuple(max(side, round(length * scale)) for length in picture.size), method)
    if variant.geometry == "short":
        return np.asarray(picture)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)))


def normalised(pixels: np.ndarray, variant: Variant, weights: Weights) -> Tensor:
    """Return the network's input (n, 3, h, w) of uint8 pixels (n, h, w, 3)."""
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255)
    if variant.pixels == "mean/std":
        return (tensor - torch.tensor(weights.mean).view(3, 1, 1)) / torch.tensor(weights.std).view(3, 1, 1)
    return (tensor.flip(1) if variant.pixels == "bgr" else tensor) * weights.unit


def coverage(size: tuple[int, int], side: int) -> Tensor:
    """Return the share of each cell of the last maps (side / 32 per side) that shows the image, not the border."""
    cells, shares = side // 32, []
    for length in (size[1], size[0]):
        inner = max(1, round(length * side / max(size)))
        start = (side - inner) // 2
        edges = torch.arange(cells) * 32
        shares.append((torch.clamp(edges + 32, max=start + inner) - torch.clamp(edges, min=start)).clamp(min=0) / 32)
    return shares[0][:, None] * shares[1][None, :]


def pooled(maps: Tensor, vector: str, inner: Tensor) -> Tensor:
    """Pool maps (n, 512, h, w) to (n, 512); "inside" weights each position by `inner` (n, h, w)."""
    if vector == "average":
        return maps.mean(dim=(2, 3))
    if vector == "gem":
        return generalised_mean(maps)
    share = (inner / inner.sum(dim=(1, 2), keepdim=True))[:, None]
    if vector == "average inside":
        return (maps * share).sum(dim=(2, 3))
    return (maps.clamp(min=1e-6).pow(3) * share).sum(dim=(2, 3)).pow(1 / 3)


@torch.inference_mode()
def vectors(photos: Photos, variant: Variant, weights: Weights) -> dict[str, list[np.ndarray]]:
    """Return, for each vector of the variant, matrices (photos, dimension): one, or one for each fc1 that is tried."""
    pictures = photos.stored if variant.geometry == "article" else photos.white
    pools = [vector for vector in variant.vectors if not vector.startswith("fc1") and vector != LESS_MEAN]
    parts: dict[str, list[Tensor]] = {vector: [] for vector in [*pools, "maps"]}
    batch = 1 if variant.geometry == "short" else BATCH
    for start in range(0, len(pictures), batch):
        group = pictures[start : start + batch]
        maps = weights.features(normalised(np.stack([square(picture, variant) for picture in group]), variant, weights))
        inner = torch.stack([coverage(picture.size, variant.side) for picture in group])
        for vector in pools:
            parts[vector].append(pooled(maps, vector, inner))
        parts["maps"].append(adaptive_avg_pool2d(maps, (7, 7)).flatten(1))
    result = {vector: [normalize(torch.cat(parts[vector]), dim=1).numpy()] for vector in pools}
    if LESS_MEAN in variant.vectors:
        result[LESS_MEAN] = [finish(torch.cat(parts["gem"]).numpy(), get_recipe(OURS.name, size=variant.side))]
    if any(vector.startswith("fc1") for vector in variant.vectors):
        flat = torch.cat(parts["maps"])
        plain = [linear(flat, *layer) for layer in weights.fc1()]
        result["fc1"] = [normalize(matrix, dim=1).numpy() for matrix in plain]
        result["fc1 as is"] = [matrix.numpy() for matrix in plain]
    return {vector: result[vector] for vector in variant.vectors}


def answers(matrix: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each photo whether its nearest other is of its class, and its average precision."""
    wide = matrix.astype(np.float64)
    squares = (wide**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * wide @ wide.T
    np.fill_diagonal(distances, np.inf)
    order = np.argsort(distances, axis=1, kind="stable")[:, :-1]
    right = labels[order] == labels[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, len(labels))
    return right[:, 0].astype(float), (precision * right).sum(axis=1) / np.maximum(1, right.sum(axis=1))


def interval(values: np.ndarray) -> list[float]:
    """Return the 95 % bootstrap interval of the mean of a value of each photo."""
    picks = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    return [round(float(end), 4) for end in np.percentile(values[picks].mean(axis=1), [2.5, 97.5])]


def rotated(matrix: np.ndarray) -> np.ndarray:
    """Return the rows in axes of their own, at most as many as rows: same distances, much faster k-means."""
    left, sizes, _ = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    return left * sizes


def score(matrices: list[np.ndarray], labels: np.ndarray) -> dict[str, object]:
    """Return the scores of a Row; for several matrices the mean for each photo, and k-means over all of them."""
    pairs = [answers(matrix, labels) for matrix in matrices]
    hits, precisions = (np.mean([pair[place] for pair in pairs], axis=0) for place in (0, 1))
    classes = len(np.unique(labels))
    with threadpool_limits(1):  # so few rows are not worth a second thread, which waits on a busy machine
        found = [
            normalized_mutual_info_score(labels, KMeans(classes, n_init=10, random_state=seed).fit_predict(turned))
            for turned in map(rotated, matrices)
            for seed in KMEANS_SEEDS
        ]
    return {
        "dimension": matrices[0].shape[1],
        "p_at_1": round(float(hits.mean()), 4),
        "p_at_1_interval": interval(hits),
        "map": round(float(precisions.mean()), 4),
        "nmi": round(statistics.median(found), 4),
        "nmi_range": [round(min(found), 4), round(max(found), 4)],
        "average_precisions": [round(float(value), 5) for value in precisions],
    }


def gflop(height: int, width: int, fc1: bool) -> float:
    """Return billions of floating point operations (a multiply-add is two) of VGG-16 up to the layer."""
    total, channels = 0, 3
    for layer in LAYERS:
        if isinstance(layer, str):
            height, width = height // 2, width // 2
        else:
            total += 2 * 9 * channels * layer * height * width
            channels = layer
    return (total + 2 * 25088 * 4096 * fc1) / 1e9


NetworkSize = tuple[int, bool]  # side, whether fc1 comes after the convolutions


@torch.inference_mode()
def speeds(weights: Weights, sizes: list[NetworkSize]) -> dict[NetworkSize, float]:
    """Return images per second of the network alone in fp32: for each size the median of several rounds.

    The first round is a warm-up. A round measures every size once, so other load on the machine slows all of them.
    """
    layer = next(weights.fc1())
    seconds: dict[NetworkSize, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS + 1):
        for side, fc1 in sizes:
            batch = torch.randn(BATCH, 3, side, side).to(memory_format=torch.channels_last)
            start = time.perf_counter()
            maps = weights.features(batch)
            if fc1:
                linear(adaptive_avg_pool2d(maps, (7, 7)).flatten(1), *layer)
            else:
                generalised_mean(maps)
            seconds[side, fc1].append(time.perf_counter() - start)
    return {size: round(BATCH / statistics.median(times[1:]), 2) for size, times in seconds.items()}


def rows(photos: Photos, variant: Variant, weights: Weights, speed: dict[NetworkSize, float]) -> Iterator[Row]:
    """Measure one variant: one forward pass, a row for each vector."""
    for vector, matrices in vectors(photos, variant, weights).items():
        fc1 = vector.startswith("fc1")
        sizes = (
            [square(picture, variant).shape[:2] for picture in photos.white] if variant.geometry == "short" else None
        )
        sizes = sizes or [(variant.side, variant.side)]
        yield Row(
            weights=weights.name,
            geometry=variant.geometry,
            side=variant.side,
            pixels=variant.pixels,
            resampling=variant.resampling,
            vector=vector.replace("fc1", weights.fc1_name),
            gflop=round(statistics.mean(gflop(*size, fc1) for size in sizes), 1),
            images_per_second=None if variant.geometry == "short" else speed[variant.side, fc1],
            **score(matrices, photos.labels),
        )


def compared(table: list[Row]) -> list[Row]:
    """Return the rows with the interval of the difference between their mAP and that of the recipe vgg16-pool5."""
    wanted = ("oxford", OURS.geometry, OURS.side, "mean/std", "bilinear", LESS_MEAN)
    ours = next(
        row for row in table if (row.weights, row.geometry, row.side, row.pixels, row.resampling, row.vector) == wanted
    )
    base = np.array(ours.average_precisions)
    return [
        row if row is ours else replace(row, map_less_ours=interval(np.array(row.average_precisions) - base))
        for row in table
    ]


def same_as_imgindex(photos: Photos, weights: Weights) -> float:
    """Return the largest difference between the vectors measured here and those that imgindex itself computes."""
    few = replace(photos, white=photos.white[:4])
    variant = Variant(OURS.geometry, OURS.side, ("gem", LESS_MEAN))
    recipe = choose_recipe(OURS.name).recipe
    encoder = make_encoder(recipe, {}, None, Engine(device="cpu", precision="fp32"))
    theirs = encoder.encode(np.stack([prepare(picture, recipe) for picture in few.white]))
    return float(np.abs(vectors(few, variant, weights)[LESS_MEAN][0] - theirs).max())


def markdown(table: list[Row]) -> str:
    """Return the table as Markdown; the row of vgg16-pool5 is marked as ours."""
    head = "| weights | geometry | side | pixels | resize | vector | P@1 | mAP | NMI | mAP − ours | GFLOP | img/s |"
    lines = [head, "|" + "---|" * 12]
    for row in table:
        low, high = row.p_at_1_interval
        worst, best = row.nmi_range
        less = "{:+.3f} … {:+.3f}".format(*row.map_less_ours) if row.map_less_ours else "**ours**"
        lines.append(
            f"| {row.weights} | {row.geometry} | {row.side} | {row.pixels} | {row.resampling} | {row.vector} "
            f"| {row.p_at_1:.3f} ({low:.2f}–{high:.2f}) | {row.map:.3f} | {row.nmi:.3f} ({worst:.2f}–{best:.2f}) "
            f"| {less} | {row.gflop:.1f} | {row.images_per_second or '–'} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print the table, and write the files that the options name."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="tar file or folder of CLASS/FILE")
    parser.add_argument("--weights", help="state dict with a trained fc1, as torchvision's vgg16")
    parser.add_argument("--out", type=Path, help="JSON: all rows, the machine, versions")
    parser.add_argument("--markdown", type=Path, help="the table")
    options = parser.parse_args()
    photos = read(options.photos)
    sets = [oxford()] + ([trained(options.weights)] if options.weights else [])
    difference = same_as_imgindex(photos, sets[0])
    if difference > 1e-4:
        sys.exit(f"the vectors measured here are not imgindex's: they differ by {difference}")
    table: list[Row] = []
    busy: list[float] = []
    for weights in sets:
        wanted = variants(oxford=weights is sets[0])
        sizes = {(variant.side, vector.startswith("fc1")) for variant in wanted for vector in variant.vectors}
        busy.append(os.getloadavg()[0])
        speed = speeds(weights, sorted(sizes))
        for number, variant in enumerate(wanted, 1):
            start = time.perf_counter()
            table += rows(photos, variant, weights, speed)
            seconds = time.perf_counter() - start
            print(f"{weights.name} {number}/{len(wanted)}: {seconds:.0f} s, {table[-1]}"[:200], file=sys.stderr)
    table = compared(table)
    print(markdown(table))
    if options.markdown:
        options.markdown.write_text(markdown(table), encoding="utf-8")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "benchmark": "recipes",
            "machine": measure.machine(),
            "versions": measure.versions(),
            "photos": {"images": len(photos.names), "classes": len(np.unique(photos.labels))},
            "settings": {"precision": "fp32", "batch": BATCH, "rounds": ROUNDS, "fc1_seeds": list(FC1_SEEDS)},
            "load_average_before_timing": busy,
            "difference_from_imgindex": difference,
            "rows": [{key: value for key, value in asdict(row).items() if key not in PER_PHOTO} for row in table],
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
