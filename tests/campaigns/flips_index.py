"""The indexes that the campaign `flips` damages, the questions to an index, and the truth about its pictures."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from campaign import TESTS  # noqa: F401  puts the tests on the path
from decoders_here import work_here
from grid_mean import GRID_RECIPE, GridMean, replace_encoder
from pictures import draw
from PIL import Image

from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import ImgindexError
from imgindex.storage import durable
from imgindex.vectors.rows import VectorRows

HOME = "pictures.imgindex"
# The probes: an image, a copy of another, an updated one, and a name that is not UTF-8.
PROBES = ("pictures/a/3.png", "pictures/b/copy of 3.png", "pictures/a/5.png", "pictures/caf\udce9.png")
State = dict[str, bytes]  # name below the index's folder → content


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about a picture: its vector, and its size and format."""

    vector: tuple[float, ...]
    width: int
    height: int
    format: str


@dataclass(frozen=True, slots=True)
class Refused:
    """An error that was raised on purpose: its name, and the way out."""

    name: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class Crashed:
    """An exception that was not raised on purpose."""

    text: str


class Hang(BaseException):
    """What the alarm raises: a call did not come back."""


class Recorder(durable.Disk):
    """Keeps the state of an index after each commit, as a crash there would leave it, log and all."""

    def __init__(self, home: Path) -> None:
        self.home, self.states = home, [state_of(home)]

    def execute(self, path: str, connection: Any, statement: str) -> None:
        super().execute(path, connection, statement)
        if statement == "commit":
            self.states.append(state_of(self.home))


def state_of(home: Path) -> State:
    """Every file of an index, in whatever folder."""
    return {str(path.relative_to(home)): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}


class Foreign(GridMean):
    """An encoder of another recipe."""

    name, digest = "foreign", hashlib.sha256(b"foreign").hexdigest()


def build(folder: Path) -> tuple[dict[str, list[State]], dict[str, Truth]]:
    """Make pictures and their indexes below a folder; return each one's states, the newest last, and all contents.

    now: an index at rest. old: the same before its second run. log: one that a crash left with a log that is not yet
    in the catalogue, after each of its commits. other, foreign: indexes of other pictures, and of another recipe.
    other log, foreign log: these with such a log.
    """
    pictures, home = folder / "pictures", folder / HOME
    truths: dict[str, Truth] = {}
    _first_pictures(pictures, truths)
    states: dict[str, list[State]] = {}
    with _adding(home, GridMean()) as index:
        index.add([pictures])
    states["old"] = [_with_strangers(home)]
    with _opened(home) as index:
        _change_pictures(pictures, truths)
        recorder = Recorder(home)
        _record(recorder, lambda: index.add([pictures]))
        index.remove([pictures / "b/14.png", pictures / "b/15.png"])
    states["log"], states["now"] = recorder.states, [_with_strangers(home)]
    for name, encoder in {"other": GridMean(), "foreign": Foreign()}.items():
        away = folder / name
        for number in range(24):
            draw(away / f"{number}.png", number + 60)
        with _adding(folder / f"{name}.imgindex", encoder) as index:
            recorder = Recorder(folder / f"{name}.imgindex")
            _record(recorder, partial(index.add, [away]))
        states[name] = [_with_strangers(folder / f"{name}.imgindex")]
        states[f"{name} log"] = recorder.states[-1:]
        shutil.rmtree(away)
        shutil.rmtree(folder / f"{name}.imgindex")
    return states, truths


def _first_pictures(pictures: Path, truths: dict[str, Truth]) -> None:
    for number in range(20):
        _draw(truths, pictures / ("a" if number < 9 else "b") / f"{number}.png", number, (32 + number, 32))
    _draw(truths, pictures / "caf\udce9.png", 41, (32, 40))
    _draw(truths, pictures / "c/20.bmp", 20, (32, 32))
    (pictures / "broken.jpg").write_text("this is no picture")
    (pictures / "b/empty.png").write_bytes(b"")


def _change_pictures(pictures: Path, truths: dict[str, Truth]) -> None:
    for name in ("a/0.png", "b/11.png"):
        (pictures / name).unlink()
    for number in (5, 12):
        _draw(truths, pictures / ("a" if number < 9 else "b") / f"{number}.png", number + 40, (50, 32))
    for number in (31, 32, 33):
        _draw(truths, pictures / f"c/{number}.png", number, (32, 32))
    shutil.copy(pictures / "a/3.png", pictures / "b/copy of 3.png")


def _draw(truths: dict[str, Truth], path: Path, number: int, size: tuple[int, int]) -> None:
    """Draw a picture of one colour and note what is true of its bytes, from that colour alone."""
    colour = (number * 37 % 256, number * 101 % 256, number * 211 % 256)
    if not os.fsdecode(path.name).isascii():
        draw(path.with_name("plain.png"), number, size).rename(path)
    else:
        draw(path, number, size)
    # A picture that is not square has other means once it is letterboxed, so these are computed from its pixels.
    truth = Truth(_means(colour, size), *size, "BMP" if path.suffix == ".bmp" else "PNG")
    truths[hashlib.sha256(path.read_bytes()).hexdigest()] = truth


def _means(colour: tuple[int, int, int], size: tuple[int, int]) -> tuple[float, ...]:
    from imgindex.decoding.transforms import prepare

    pixels = prepare(Image.new("RGB", size, colour), GRID_RECIPE)
    return tuple(GridMean().encode(pixels[None])[0].tolist())


@contextmanager
def _adding(home: Path, encoder: GridMean) -> Iterator[ImageIndex]:
    with ImageIndex.create(home, encoder=encoder) as index:
        _prepare(index)
        yield index


@contextmanager
def _opened(home: Path) -> Iterator[ImageIndex]:
    with ImageIndex.open(home) as index:
        _prepare(index)
        yield index


def _prepare(index: ImageIndex) -> None:
    replace_encoder(index, GridMean())
    index._store.segments.capacity = 10


def _record(recorder: Recorder, work: Callable[[], object]) -> None:
    before, durable.disk = durable.disk, recorder
    try:
        work()
    finally:
        durable.disk = before


def _with_strangers(home: Path) -> State:
    """The files of an index, and one that has no reader yet."""
    return {**state_of(home), "thumbnails/000001.jpg": b"no thumbnail " * 20}


def ask(home: str) -> dict[str, Any]:
    """Every answer that an index gives: its value in plain numbers and words, Refused or Crashed."""
    try:
        index = ImageIndex.open(home)
    except (Hang, Exception) as error:  # noqa: BLE001  which of them it was is the answer
        return {"open": _kind(error)}
    with index:
        replace_encoder(index, GridMean())
        found: dict[str, Any] = {}
        for name, question in QUESTIONS.items():
            try:
                found[name] = question(index)
            except Hang as error:
                return {**found, name: _kind(error)}
            except Exception as error:  # noqa: BLE001
                found[name] = _kind(error)
        return found


def _kind(error: BaseException) -> Refused | Crashed:
    if isinstance(error, ImgindexError):
        return Refused(type(error).__name__, str(error), error.hint)
    return Crashed(f"{type(error).__name__}: {error}")


def _status(index: ImageIndex) -> Any:
    status = index.status()
    return {name: value for name, value in status.items() if name not in ("bytes", "index")}


def _cluster(index: ImageIndex) -> Any:
    found = index.cluster(k=3, seed=7, restarts=1)
    return found.ids.tolist(), found.paths, found.labels.tolist(), found.sizes, found.centroids.tobytes()


def _export(index: ImageIndex) -> bytes:
    out = Path(index.path).with_name("out.npz")
    index.export(out)
    return out.read_bytes()


def _similar(probe: int, **options: Any) -> Callable[[ImageIndex], Any]:
    return lambda index: [asdict(match) for match in index.similar(PROBES[probe], **options)]


QUESTIONS: dict[str, Callable[[ImageIndex], Any]] = {
    "paths": lambda index: index.paths(),
    "ids": lambda index: index.ids().tolist(),
    "images": lambda index: [asdict(image) for image in index.images()],
    "vectors": lambda index: (index.vectors().shape, index.vectors().tobytes()),
    "failures": lambda index: [asdict(failure) for failure in index.failures()],
    "status": _status,
    "length": len,
    "similar": _similar(0, n=5),
    "itself": _similar(1, n=3, include_self=True),
    "near": _similar(2, n=50, max_distance=0.6),
    "answers": lambda index: [asdict(answer) for answer in index.answers([*PROBES, "pictures/none.png"], n=2)],
    "cluster": _cluster,
    "export": _export,
}


@contextmanager
def spare_work() -> Iterator[None]:
    """Let pictures be decoded in this process, and indexes of a few rows have search files."""
    with (
        patch.object(DecoderPool, "work", work_here),
        patch("imgindex.search.lifecycle.EXACT_ROWS", 8),
        # A question changes nothing here, so that the next one meets the same damage.
        patch("imgindex.clustering.run.store_clustering", lambda store, found, **options: found),
    ):
        yield


def remember_kmeans() -> None:
    """Let equal vectors be clustered once: k-means sees numbers alone, and takes longer than all the rest."""
    from imgindex.clustering import run

    kmeans, known = run.kmeans, {}

    def remembering(points: VectorRows, k: int, **options: Any) -> Any:
        key = (points[:].tobytes(), k, repr(options))
        if key not in known:
            known.clear() if len(known) > 1000 else None
            known[key] = kmeans(points, k, **options)
        return known[key]

    run.kmeans = remembering  # type: ignore[assignment]
