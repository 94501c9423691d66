"""The operations of the campaign `steps`: what is there before each, what it does, and what must be there at last."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from decoders_here import work_here
from grid_mean import GridMean, replace_encoder
from pictures import draw

import imgindex.search.lifecycle
from imgindex import ImageIndex
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import IndexExists, PathNotFound
from imgindex.search.upkeep import update_search_files
from imgindex.storage import segments
from imgindex.types import Progress

GOLDEN = Path(__file__).parents[1] / "storage" / "golden" / "v1"
BROKEN = b"this is no picture"
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class KnownImage:
    """A present image of the index."""

    id: int
    sha256: str
    mtime_ns: int


State = dict[str, KnownImage]  # path below the folder of the index → image


@dataclass
class World:
    """A folder that holds `pictures` and `it.imgindex`."""

    root: Path

    @property
    def index(self) -> Path:
        return self.root / "it.imgindex"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @contextlib.contextmanager
    def opened(self) -> Iterator[ImageIndex]:
        with ImageIndex.open(self.index) as index:
            replace_encoder(index, GridMean(batch_size=2))  # that of the golden index has another form of recipe
            yield index

    def add(self) -> None:
        with self.opened() as index:
            index.add([self.pictures])

    def clear_index(self) -> None:
        shutil.rmtree(self.index, ignore_errors=True)


@dataclass(frozen=True)
class Scene:
    """An operation: `make` prepares the world, `run` operates on it, `again` does so once more after a failure.

    damaged: whether it may be impossible to open the index before. index: the open index to use, if there is one.
    rows: above how many rows a search index is built. averages: whether averaged vectors are kept, or asked for.
    reads: whether it is a query, which writes only averages; what it leaves unfinished, the next writer removes.
    """

    name: str
    make: Callable[[World], None]
    run: Callable[[World, ImageIndex | None, OnProgress], None]
    damaged: bool = False
    creates: bool = False
    rows: int = 100_000
    averages: bool = False
    reads: bool = False
    fine: tuple[type[Exception], ...] = ()

    def again(self, world: World, index: ImageIndex | None = None) -> None:
        """Do the operation once more; where it raises that it was done already, open the next writer instead."""
        try:
            self.run(world, index, lambda progress: None)
        except self.fine:
            with world.opened() as other, (index or other)._store.writing():
                pass
        if self.reads:
            with world.opened() as other:
                other.tag("looked at", where="true")
                with other._store.writing() as writer:
                    update_search_files(other._store, writer)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Make segments of three rows, search indexes above the scene's number of rows, and decode in this process."""
        size = segments.HEADER_SIZE + 3 * 12 * 4
        with (
            mock.patch.object(segments, "SEALED_SIZE", size),
            mock.patch.object(imgindex.search.lifecycle, "EXACT_ROWS", self.rows),
            mock.patch.object(DecoderPool, "work", work_here),
        ):
            yield


def state(index: ImageIndex) -> State:
    base = os.path.dirname(index._store.path)
    return {
        os.path.relpath(image.path, base): KnownImage(image.id, image.sha256, image.mtime_ns)
        for image in index.images()
    }


def expected_vector(path: Path) -> np.ndarray:
    """The vector of a plain picture, by its file."""
    from PIL import Image

    with Image.open(path) as picture:
        colour = picture.convert("RGB").getpixel((0, 0))
    return np.tile(np.float32(colour) / np.float32(255), 4)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# what is there before


def _create(world: World) -> None:
    ImageIndex.create(world.index, encoder=GridMean()).close()


def _nothing(world: World) -> None:
    draw(world.pictures / "0.png", 0)


def _new(world: World) -> None:
    for number in range(7):
        draw(world.pictures / f"{number}.png", number)
    shutil.copy2(world.pictures / "1.png", world.pictures / "copy of 1.png")
    (world.pictures / "broken.jpg").write_bytes(BROKEN)
    _create(world)


def _old(world: World) -> None:
    for number in range(9):
        draw(world.pictures / ("a" if number < 4 else "b") / f"{number}.png", number)
    (world.pictures / "readable later.png").write_bytes(BROKEN)
    shutil.copy2(world.pictures / "a/1.png", world.pictures / "b/copy of 1.png")
    _create(world)
    world.add()


def _changed(world: World) -> None:
    """Everything that may happen to pictures between two runs."""
    _old(world)
    away = world.root / "away.png"
    os.rename(world.pictures / "b/8.png", away)
    world.add()
    os.rename(away, world.pictures / "b/8.png")  # comes back
    draw(world.pictures / "a/0.png", 50)  # updated
    os.rename(world.pictures / "a/2.png", world.pictures / "b/renamed.png")
    shutil.copy2(world.pictures / "a/3.png", world.pictures / "b/copy of 3.png")
    (world.pictures / "b/4.png").unlink()
    (world.pictures / "b/5.png").write_bytes(BROKEN + b" any more")
    draw(world.pictures / "readable later.png", 51)
    for number in (60, 61, 62):
        draw(world.pictures / f"{number}.png", number)


def _holes(world: World) -> None:
    """Rows of no image, and small segments."""
    _old(world)
    for number in (0, 1):
        draw(world.pictures / f"a/{number}.png", 70 + number)
    (world.pictures / "b/6.png").unlink()
    world.add()
    with world.opened() as index:
        index.remove([world.pictures / "b/7.png"])
    (world.pictures / "b/7.png").unlink()


def _segment(world: World, number: int = 1) -> Path:
    return world.index / "segments" / f"{number:06d}.vec"


def _change(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _flipped(world: World) -> None:
    """Two vectors are damaged; the picture of one of them is gone."""
    _old(world)
    _change(_segment(world), segments.HEADER_SIZE + 5, b"\xff")
    _change(_segment(world, 2), segments.HEADER_SIZE + 5, b"\xff")
    with world.opened() as index:
        lost = index._store.catalogue.connection.execute("select path from images where segment = 2 and row = 0")
        (world.root / lost.fetchone()[0]).unlink()


def _header(world: World) -> None:
    _old(world)
    _change(_segment(world), 0, b"?")


def _short(world: World) -> None:
    _old(world)
    os.truncate(_segment(world, 2), segments.HEADER_SIZE + 60)


def _catalogue(world: World) -> None:
    """A byte of the catalogue changed, which only its checksum shows."""
    _old(world)
    path = world.index / "catalogue.db"
    _change(path, path.read_bytes().rindex(b"PNG"), b"?")


def _log(world: World) -> None:
    """The catalogue is damaged, and has a log that was not moved into it."""
    _old(world)
    draw(world.pictures / "late.png", 80)
    kept = world.root / "kept"
    with world.opened() as index:

        def died(progress: Progress) -> None:
            if progress.stage == "embed" and progress.done and not kept.exists():
                shutil.copytree(world.index, kept)

        index.add([world.pictures], on_progress=died)
    world.clear_index()
    os.rename(kept, world.index)
    data = (world.index / "catalogue.db").read_bytes()
    _change(world.index / "catalogue.db", data.rindex(b"PNG"), b"?")


def _golden(world: World) -> None:
    shutil.copytree(GOLDEN / "golden.imgindex", world.index)
    shutil.copytree(GOLDEN / "pictures", world.pictures)
    draw(world.pictures / "new.png", 90)


def _searchable(world: World) -> None:
    _holes(world)
    for number in range(20, 26):
        draw(world.pictures / f"{number}.png", number)


def _averaged(world: World) -> None:
    _searchable(world)
    _run_query(world, None, lambda progress: None)


# what is done


def _run_create(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    _create(world)


def _run_add(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    with contextlib.ExitStack() as stack:
        index = index or stack.enter_context(world.opened())
        index.add([world.pictures], on_progress=on_progress)


def _run_remove(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    with contextlib.ExitStack() as stack:
        index = index or stack.enter_context(world.opened())
        index.remove([world.pictures / "a", world.pictures / "readable later.png"])


def _run_compact(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    with contextlib.ExitStack() as stack:
        index = index or stack.enter_context(world.opened())
        index.compact()


def _run_query(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    with contextlib.ExitStack() as stack:
        index = index or stack.enter_context(world.opened())
        index.similar(index.paths()[0], rerank=True, on_progress=on_progress)


def _run_repair(world: World, index: ImageIndex | None, on_progress: OnProgress) -> None:
    ImageIndex.repair(world.index, encoder=GridMean(batch_size=2), on_progress=on_progress)


SCENES = (
    Scene("creation", _nothing, _run_create, creates=True, fine=(IndexExists,)),
    Scene("first add", _new, _run_add),
    Scene("next add", _changed, _run_add),
    Scene("remove", _old, _run_remove, fine=(PathNotFound,)),
    Scene("compact", _holes, _run_compact),
    Scene("repair of vectors", _flipped, _run_repair, damaged=True),
    Scene("repair of a header", _header, _run_repair, damaged=True),
    Scene("repair of a short segment", _short, _run_repair, damaged=True),
    Scene("repair of a catalogue", _catalogue, _run_repair, damaged=True),
    Scene("repair of a catalogue with a log", _log, _run_repair, damaged=True),
    Scene("migration", _golden, _run_add),
    Scene("add with a search index", _searchable, _run_add, rows=4),
    Scene("compact with a search index", _searchable, _run_compact, rows=4),
    Scene("query with averages", _searchable, _run_query, averages=True, reads=True),
    Scene("add with averages", _averaged, _run_add, averages=True),
    Scene("compact with averages", _averaged, _run_compact, averages=True),
)
