"""What the tests share: an embedder that one can compute in the head, and images drawn in a temporary folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from forking import ForkServer
from PIL import Image

from imgindex import ImageIndex, Recipe
from imgindex.embedding.decoder import Decoded
from imgindex.embedding.prepare import prepare
from imgindex.embedding.sandbox import Decoders
from imgindex.images.decode import decode

# The recipe of GridMean: pictures of 32 pixels, vectors of 12 numbers that nothing normalises.
GRID_RECIPE = Recipe(
    name="grid", cut="pool5", weights="random:0", weights_sha256="", side=32, dimension=12, norm="none"
)


class GridMean:
    """Embeds a picture as the mean colour (0…1) of each quarter: 2 × 2 × 3 numbers. Counts what it is given."""

    lanes = 1
    precision = "fp32"

    def __init__(self, batch_size: int = 4) -> None:
        self.batch_size = batch_size
        self.embedded = 0

    def embed(self, batch: np.ndarray) -> np.ndarray:
        self.embedded += len(batch)
        n, side, _, _ = batch.shape
        quarters = batch.reshape(n, 2, side // 2, 2, side // 2, 3)
        return quarters.mean(axis=(2, 4)).reshape(n, 12).astype(np.float32) / 255

    def exact(self) -> GridMean:
        return self


def decode_here(decoders: Decoders, data: bytes) -> Decoded:
    """What `Decoders.decode` does, without processes of their own: those would take longer than all the rest."""
    recipe = decoders._recipe
    picture = decode(data, alpha=recipe.alpha)
    return Decoded(prepare(picture.image, recipe), picture.width, picture.height, picture.format)


def draw(path: Path, colour: int | tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Path:
    """Draw one plain picture; a number stands for a colour of its own. Losslessly, if it is a PNG."""
    if isinstance(colour, int):
        colour = (colour * 37 % 256, colour * 101 % 256, colour * 211 % 256)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All bytes below a folder, but for what SQLite's readers and the lock leave in an index."""
    passing = {"catalogue.db-shm", "catalogue.db-wal", "lock"}
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in passing)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with twelve pictures in two sub-folders: `a/0.png` … `b/11.png`."""
    for number in range(12):
        draw(tmp_path / "pictures" / ("a" if number < 6 else "b") / f"{number}.png", number)
    return tmp_path / "pictures"


@pytest.fixture
def embedder() -> GridMean:
    return GridMean()


@pytest.fixture
def index(tmp_path: Path, embedder: GridMean) -> Iterator[ImageIndex]:
    """An empty index beside the pictures, with the embedder of the tests."""
    with ImageIndex.create(tmp_path / "pictures.imgindex", recipe=GRID_RECIPE) as opened:
        opened.embedder = embedder
        yield opened


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command line in a process of its own, in the temporary folder, without a way to the web."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TORCH_HOME": str(tmp_path / "torch"), "https_proxy": "http://127.0.0.1:9"}
        environment.pop("IMGINDEX_DIR", None)
        return subprocess.run(
            [sys.executable, "-m", "imgindex", *map(os.fspath, arguments)],
            check=False,
            **{
                "cwd": tmp_path,
                "env": environment | options.pop("env", {}),
                "capture_output": True,
                "text": True,
                "errors": "surrogateescape",
                "stdin": subprocess.DEVNULL,
                "timeout": 120,
                **options,
            },
        )

    return run


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of real labelled photos, CLASS/FILE, that IMGINDEX_TEST_DATA names."""
    data = os.environ.get("IMGINDEX_TEST_DATA")
    if not data or not Path(data, "photos-dev.tar").is_file():
        pytest.skip("IMGINDEX_TEST_DATA names no folder with photos-dev.tar")
    return Path(data)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Runs the command line in processes that need not start first."""
    running = ForkServer(tmp_path_factory.mktemp("server"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def templates(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders with 0, 1 and 3 pictures, `pictures/0.png` …, each beside its index, which has a clustering."""
    made = {}
    for number in (0, 1, 3):
        folder = made[number] = tmp_path_factory.mktemp("template")
        (folder / "pictures").mkdir()
        for colour in range(number):
            draw(folder / "pictures" / f"{colour}.png", colour)
        done = server.run("add", "pictures", "--recipe", "vgg16-pool5", "--size", "32", folder=folder)
        assert done.code == 0, done.stderr
        if number:
            assert server.run("cluster", "-k", "1", folder=folder).code == 0
    return made


@pytest.fixture
def three(templates: dict[int, Path], tmp_path: Path) -> Path:
    """A folder of its own with three pictures and their index."""
    shutil.copytree(templates[3], tmp_path, dirs_exist_ok=True)
    return tmp_path
