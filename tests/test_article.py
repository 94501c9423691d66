"""The recipe `article` against the article's own script, written again from OpenCV, torchvision and scikit-learn."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
import torchvision
from PIL import ExifTags, Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import nn
from torchvision import transforms

from imgindex import RECIPES, Engine, ImageIndex
from imgindex.decoding.decode import decode
from imgindex.decoding.transforms import prepare

Vectors = npt.NDArray[np.float32]

SEED = 7
TOLERANCE = 1e-4
ALPHAS = bytes(range(0, 240, 5))


class FeatureExtractor(nn.Module):
    """The article's network: VGG-16 up to its first fully connected layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*list(model.features))
        self.pooling = model.avgpool
        self.flatten = nn.Flatten()
        self.fc = model.classifier[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.flatten(self.pooling(self.features(x))))


def the_articles_input(path: Path) -> torch.Tensor:
    transform = transforms.Compose(
        [transforms.ToPILImage(), transforms.CenterCrop(512), transforms.Resize(448), transforms.ToTensor()]
    )
    return transform(cv2.imread(str(path))).reshape(1, 3, 448, 448)


def the_articles_vectors(paths: list[Path]) -> Vectors:
    torch.manual_seed(SEED)
    model = FeatureExtractor(torchvision.models.vgg16()).eval()
    features = []
    for path in paths:
        with torch.no_grad():
            features.append(model(the_articles_input(path)).numpy().reshape(-1))
    return np.array(features)


def the_articles_submission(paths: list[Path], vectors: Vectors, start: Vectors) -> str:
    """ImageID,label by scikit-learn's k-means; the start is given, so that two programs can be compared."""
    model = KMeans(n_clusters=len(start), init=start, n_init=1, algorithm="lloyd", tol=0).fit(vectors)
    lines = [f"{path.stem},{label}" for path, label in zip(paths, model.labels_, strict=True)]
    return "\n".join(["ImageID,label", *lines])


def scene(seed: int, width: int, height: int) -> Image.Image:
    """A picture with gradients, edges and a little noise, of a palette of its own."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3 + seed % 4, 4, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    for _ in range(12):
        top, left = rng.integers(0, height), rng.integers(0, width)
        part = pixels[top : top + 1 + height // 5, left : left + 1 + width // 4]
        part[:] = rng.integers(0, 256, 3)
    return Image.fromarray((pixels + rng.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8))


def with_alpha(picture: Image.Image) -> Image.Image:
    picture = picture.convert(picture.mode + "A")
    ramp = np.linspace(0, 255, picture.width).astype(np.uint8)
    picture.putalpha(Image.fromarray(np.tile(ramp, (picture.height, 1))))
    return picture


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def saved(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def sixteen_bits(picture: Image.Image) -> bytes:
    wide = np.asarray(picture).astype(np.uint16) * 251 + 113
    done, data = cv2.imencode(".png", wide)
    assert done
    return data.tobytes()


DRAWINGS: dict[str, Callable[[], bytes]] = {
    "larger.jpg": lambda: saved(scene(1, 1400, 1051), "JPEG", quality=60),
    "narrow-and-tall.png": lambda: saved(scene(5, 33, 701), "PNG"),
    "one-pixel.png": lambda: saved(scene(7, 1, 1), "PNG"),
    "on-its-right-side.jpg": lambda: saved(scene(9, 620, 413), "JPEG", exif=turned(6)),
    "sixteen-bits-grey.png": lambda: sixteen_bits(scene(16, 520, 444).convert("L")),
}
# These go as far as the pixels that the network is given: each image costs the network seconds.
MORE_DRAWINGS: dict[str, Callable[[], bytes]] = {
    "odd-and-even.png": lambda: saved(scene(2, 513, 510), "PNG"),
    "alpha.png": lambda: saved(with_alpha(scene(12, 560, 470)), "PNG"),
    "upside-down.jpg": lambda: saved(scene(8, 531, 410), "JPEG", exif=turned(3)),
    "grey.jpg": lambda: saved(scene(14, 700, 525).convert("L"), "JPEG"),
    "lossy.webp": lambda: saved(scene(20, 640, 480), "WEBP", quality=70),
    "odd-tall.png": lambda: saved(scene(3, 601, 777), "PNG"),
    "on-its-left-side.jpg": lambda: saved(scene(10, 415, 630), "JPEG", exif=turned(8)),
    "mirrored.jpg": lambda: saved(scene(11, 540, 521), "JPEG", exif=turned(2)),
    "grey.png": lambda: saved(scene(15, 450, 514).convert("L"), "PNG"),
    "sixteen-bits-colour.png": lambda: sixteen_bits(scene(17, 390, 600)),
    "plain.bmp": lambda: saved(scene(19, 479, 523), "BMP"),
    "palette-with-alpha.png": lambda: saved(scene(13, 470, 530).quantize(48), "PNG", transparency=ALPHAS),
    "wide-and-low.jpg": lambda: saved(scene(6, 702, 45), "JPEG"),
    "odd-small.png": lambda: saved(scene(4, 101, 76), "PNG"),
    "progressive.jpg": lambda: saved(scene(18, 800, 600), "JPEG", progressive=True, quality=85),
    "exactly-512.png": lambda: saved(scene(21, 512, 512), "PNG"),
    "full-chroma.jpg": lambda: saved(scene(22, 517, 389), "JPEG", subsampling=0, quality=97),
    "four-inks.jpg": lambda: saved(scene(23, 555, 544).convert("CMYK"), "JPEG"),
    "flipped.jpg": lambda: saved(scene(24, 540, 521), "JPEG", exif=turned(4)),
    "transposed.jpg": lambda: saved(scene(25, 333, 600), "JPEG", exif=turned(5)),
    "transverse.jpg": lambda: saved(scene(26, 600, 333), "JPEG", exif=turned(7)),
    "turned.png": lambda: saved(scene(27, 400, 600), "PNG", exif=turned(6)),
    "grey-with-alpha.png": lambda: saved(with_alpha(scene(28, 300, 400).convert("L")), "PNG"),
    "palette.png": lambda: saved(scene(29, 580, 581).quantize(64), "PNG"),
    "black-and-white.png": lambda: saved(scene(30, 515, 400).convert("1"), "PNG"),
    "palette.bmp": lambda: saved(scene(31, 480, 520).quantize(16), "BMP"),
    "lossless.webp": lambda: saved(scene(32, 499, 650), "WEBP", lossless=True),
    "plain.tiff": lambda: saved(scene(33, 530, 470), "TIFF"),
}


@dataclass(frozen=True)
class Both:
    """What the article's script and imgindex made of the same files, in the same order."""

    paths: list[Path]
    article: Vectors
    ours: Vectors
    index: Path

    def row(self, name: str) -> tuple[Vectors, Vectors]:
        at = [path.name for path in self.paths].index(name)
        return self.article[at], self.ours[at]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("article")
    for name, drawing in DRAWINGS.items():
        (folder / name).write_bytes(drawing())
    engine = Engine(device="cpu", precision="fp32")
    where = tmp_path_factory.mktemp("index") / "article.imgindex"
    with ImageIndex.create(where, recipe="article", weights=f"random:{SEED}", engine=engine) as index:
        report = index.add([folder])
        assert [(failure.path, failure.reason) for failure in report.failures] == []
        paths, vectors = [Path(path) for path in index.paths()], index.vectors()
    assert sorted(path.name for path in paths) == sorted(DRAWINGS)
    return Both(paths, the_articles_vectors(paths), vectors, where)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_vector_is_the_articles(both: Both, name: str) -> None:
    article, ours = both.row(name)
    largest = np.abs(ours - article).max() / np.abs(article).max()
    euclidean = np.linalg.norm(ours - article) / np.linalg.norm(article)
    print(f"{name}: relative error {largest:.1e} (largest number), {euclidean:.1e} (Euclidean)")
    assert largest <= TOLERANCE
    assert euclidean <= TOLERANCE


@pytest.mark.parametrize("name", DRAWINGS | MORE_DRAWINGS)
def test_the_network_sees_the_articles_pixels(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((DRAWINGS | MORE_DRAWINGS)[name]())
    article = the_articles_input(file)[0].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
    ours = prepare(decode(file.read_bytes(), alpha="drop").image, RECIPES["article"])
    assert np.array_equal(ours, article)


def test_different_pictures_have_different_vectors(both: Both) -> None:
    # Else the comparison above would say nothing: every two of these are a hundred tolerances apart.
    distances = np.linalg.norm(both.article[:, None] - both.article[None], axis=-1) + np.diag(
        [np.inf] * len(both.paths)
    )
    assert (distances.min(axis=1) / np.linalg.norm(both.article, axis=1)).min() > 100 * TOLERANCE


def test_labels_are_the_articles_from_the_same_start(both: Both) -> None:
    start = both.article[np.random.default_rng(SEED).choice(len(both.paths), 3, replace=False)]
    rows = csv.DictReader(the_articles_submission(both.paths, both.article, start).splitlines())
    article = {row["ImageID"]: int(row["label"]) for row in rows}
    with ImageIndex.open(both.index) as index:
        clustering = index.cluster(3, init=start)
    ours = {Path(path).stem: label for path, label in zip(clustering.paths, clustering.labels, strict=True)}
    assert ours.keys() == article.keys()
    assert len(set(article.values())) == 3
    assert adjusted_rand_score(list(article.values()), [ours[image] for image in article]) == 1.0
