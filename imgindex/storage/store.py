"""The store of one index: catalogue, segments and lock joined by the commit protocol.

A commit appends the batch's vectors to the open segment and syncs it, then one SQLite transaction records the images
and the new row count. Until that transaction nothing points at the new rows, and after it nothing is missing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import numpy as np

from imgindex.errors import IndexDamaged, IndexExists, IndexNotFound, PathNotFound
from imgindex.storage import durable
from imgindex.storage.catalogue import LOG_LIMIT, Catalogue, Location, NewImage
from imgindex.storage.connection import naming_damage
from imgindex.storage.lock import WriteLock
from imgindex.storage.paths import PathMap, is_under
from imgindex.storage.segments import Segments
from imgindex.types import Failure, FoundFile, Image, Rows, Vectors

UNFINISHED = "catalogue.db.new"
LOGS = ("-wal", "-shm", "-journal")
OURS = {"lock"} | {name + ending for name in ("catalogue.db", UNFINISHED) for ending in ("", *LOGS)}
FOLDERS = {"segments", "search", "thumbnails"}


class Store:
    """An index on disk, open for reading; `writing()` lends a Writer, one at a time."""

    def __init__(self, path: str) -> None:
        """Open an index. Raises IndexNotFound, IndexDamaged or FormatTooNew."""
        self.path = os.path.abspath(path)
        if not exists(self.path):
            raise IndexNotFound(f"there is no index at {path}")
        self.paths = PathMap(self.path)
        self.catalogue = Catalogue(self._file("catalogue.db"), self.paths)
        try:
            with naming_damage(self.catalogue.path):
                settings = self.catalogue.settings()
            self.recipe_json = settings["recipe"]
            self.segments = Segments(
                self._file("segments"),
                dimension=int(settings["dimension"]),
                dtype=settings["store"],
                digest=settings["recipe_digest"],
            )
        except (KeyError, ValueError, TypeError) as error:
            self.catalogue.close()
            raise IndexDamaged(f"{self.catalogue.path} lacks what an index must say of itself: {error!r}") from error
        except BaseException:
            self.catalogue.close()
            raise

    @classmethod
    def create(cls, path: str, settings: dict[str, str]) -> Store:
        """Make an index and open it; `settings` needs recipe, recipe_digest, dimension and store (the dtype).

        Raises IndexExists where there is an index, or other people's files.
        """
        path = os.path.abspath(path)
        if os.path.isdir(path):
            strangers = set(os.listdir(path)) - OURS - FOLDERS
            if strangers:
                raise IndexExists(
                    f"{path} is no index and holds other files ({min(strangers)!r})",
                    hint="name a folder of its own with --index, say photos.imgindex",
                )
        os.makedirs(path, exist_ok=True)
        durable.make_folder(os.path.join(path, "segments"))
        with WriteLock(os.path.join(path, "lock")):
            if exists(path):
                raise IndexExists(f"there is an index at {path} already")
            _make_catalogue(path, settings)
        durable.sync_folder(os.path.dirname(path))
        return cls(path)

    def close(self) -> None:
        self.catalogue.close()

    def vectors(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors (n, dimension) of images that are shown, in the order of ids and in float32.

        Raises IndexDamaged when one does not have its CRC32, or is no longer there.
        """
        with self.catalogue.snapshot():
            places = list(self.catalogue.locations(ids))
            rows = self.catalogue.segments()
        if len(places) != len(ids):
            raise IndexDamaged(f"{len(ids) - len(places)} of the images asked for are not in the index")
        return self.segments.read(places, rows)

    def blocks(self) -> list[Rows]:
        """Return every segment's vectors, mapped and in the stored dtype, with the id of each row.

        The id is -1 where the row belongs to no image that is shown.
        """
        with self.catalogue.snapshot():
            rows = self.catalogue.segments()
            places = list(self.catalogue.locations())
        ids = {number: np.full(count, -1, dtype=np.int64) for number, count in rows.items()}
        table = np.array([(p.id, p.segment, p.row) for p in places], dtype=np.int64).reshape(-1, 3)
        for number, of_rows in ids.items():
            here = table[table[:, 1] == number]
            of_rows[here[:, 2]] = here[:, 0]
        return [Rows(ids[number], self.segments.map(number, count)) for number, count in rows.items()]

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """Lend the one Writer, with what a crash may have left behind cleared away.

        Raises IndexLocked while another process writes, IndexDamaged where committed rows are missing.
        """
        with WriteLock(self._file("lock")):
            catalogue = Catalogue(self._file("catalogue.db"), self.paths, write=True)
            try:
                self.segments.recover(catalogue.segments())
                yield Writer(catalogue, self.segments)
                catalogue.checkpoint()
            finally:
                catalogue.close()

    def bytes_on_disk(self) -> dict[str, int]:
        """Return the sizes in bytes of the catalogue, the segments and what is derived from them."""
        sizes = {"catalogue": 0, "segments": 0, "derived": 0}
        for name in OURS:
            with contextlib.suppress(OSError):
                sizes["catalogue"] += os.path.getsize(self._file(name))
        for name in FOLDERS:
            for folder, _, files in os.walk(self._file(name)):
                kind = "segments" if name == "segments" else "derived"
                sizes[kind] += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
        return sizes

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)


class Writer:
    """Gathers changes and commits them together; nothing that is not committed is ever seen."""

    def __init__(self, catalogue: Catalogue, segments: Segments) -> None:
        self.catalogue, self.segments = catalogue, segments
        self._rows = catalogue.segments()
        self._images: list[NewImage] = []
        self._vectors: list[Vectors] = []
        self._moves: list[tuple[int, FoundFile]] = []
        self._failures: list[Failure] = []

    def __len__(self) -> int:
        """How many changes wait for their commit."""
        return len(self._images) + len(self._moves) + len(self._failures)

    def put(self, image: NewImage, vector: Vectors) -> None:
        """Record an image with its vector (dimension,)."""
        self._images.append(image)
        self._vectors.append(vector)

    def move(self, id: int, file: FoundFile) -> None:
        """Record that a known content lies at `file` now."""
        self._moves.append((id, file))

    def fail(self, failure: Failure) -> None:
        """Record a failure."""
        self._failures.append(failure)

    def read(self, place: Location) -> Vectors:
        """Return one committed vector (dimension,). Raises IndexDamaged when its CRC32 differs."""
        vector: Vectors = self.segments.read([place], self._rows)[0]
        return vector

    def commit(self) -> None:
        """Make all gathered changes durable at once."""
        places = self._append()
        with self.catalogue.atomic():
            for number in {place[0] for place in places}:
                self.catalogue.set_rows(number, self._rows[number])
            for image, place in zip(self._images, places, strict=True):
                self.catalogue.put(image, *place)
            for id, file in self._moves:
                self.catalogue.move(id, file)
            for failure in self._failures:
                self.catalogue.fail(failure)
        # The log grows by some ten kilobytes an image, which a first run over a million images must not pile up.
        self.catalogue.checkpoint(limit=LOG_LIMIT)
        self._images, self._vectors, self._moves, self._failures = [], [], [], []

    def remove(self, paths: Sequence[str]) -> list[Image]:
        """Take out the images and failures at these absolute paths or below them, and commit; return the images.

        Raises PathNotFound, and changes nothing, when there is nothing at one of the paths.
        """
        images, failures = list(self.catalogue.images()), list(self.catalogue.failures())
        ids, forgotten = {}, set()
        for path in paths:
            place = self.catalogue.paths.canonical(path)
            here = [image for image in images if is_under(image.path, place)]
            failed = [failure.path for failure in failures if is_under(failure.path, place)]
            if not here and not failed:
                raise PathNotFound(f"the index has nothing at {path}", hint="`imgindex list` tells what it has")
            ids.update({image.id: image for image in here})
            forgotten.update(failed)
        with self.catalogue.atomic():
            self.catalogue.forget(ids)
            self.catalogue.forget_failures(forgotten)
        return [ids[id] for id in sorted(ids)]

    def _append(self) -> list[tuple[int, int, int]]:
        """Write the gathered vectors to the open segment, or a new one when it is full: segment, row, crc of each."""
        places: list[tuple[int, int, int]] = []
        while len(places) < len(self._vectors):
            number = max(self._rows, default=1)
            if self._rows.get(number, 0) >= self.segments.capacity:
                number += 1
            rows = self._rows.get(number, 0)
            room = self.segments.capacity - rows
            part = np.stack(self._vectors[len(places) : len(places) + room])
            crcs = self.segments.append(number, rows, part)
            places += [(number, rows + position, crc) for position, crc in enumerate(crcs)]
            self._rows[number] = rows + len(crcs)
        return places


def exists(path: str) -> bool:
    """Whether a folder holds an index."""
    return os.path.isfile(os.path.join(path, "catalogue.db"))


def _make_catalogue(path: str, settings: dict[str, str]) -> None:
    """Make catalogue.db under another name first: who dies here leaves no index, and the next one begins anew."""
    unfinished = os.path.join(path, UNFINISHED)
    for ending in ("", *LOGS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished + ending)
    catalogue = Catalogue(unfinished, PathMap(path), write=True)
    try:
        with catalogue.atomic():
            for key, value in settings.items():
                catalogue.set_setting(key, value)
    finally:
        catalogue.close()
    durable.replace(unfinished, os.path.join(path, "catalogue.db"))
