"""The writer of a store: gathers changes and commits them together.

A commit appends the batch's vectors to the open segment and syncs it, then one SQLite transaction records the images
and the new row count. Until that transaction nothing points at the new rows, and after it nothing is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgindex.errors import PathNotFound
from imgindex.storage.catalogue import LOG_LIMIT, Catalogue
from imgindex.storage.paths import is_under
from imgindex.storage.records import Location, NewImage
from imgindex.storage.segments import Segments, Tail
from imgindex.types import Failure, FoundFile, Image, Vectors


class Writer:
    """Gathers changes and commits them together; nothing that is not committed is ever seen."""

    def __init__(self, catalogue: Catalogue, segments: Segments) -> None:
        self.catalogue, self.segments = catalogue, segments
        self._tail = Tail(segments, catalogue.segments(), first=catalogue.next_segment())
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
        maps = self.segments.maps({place.segment: self._tail.rows.get(place.segment, 0)})
        vector: Vectors = self.segments.read([place], maps)[0]
        return vector

    def begin_segment(self) -> None:
        """Let the next vectors go into a new segment, whatever room the last one has."""
        self._tail = Tail(self.segments, {}, first=self.catalogue.next_segment())

    def commit(self) -> None:
        """Make all gathered changes durable at once."""
        places = self._tail.append(np.stack(self._vectors)) if self._vectors else []
        with self.catalogue.atomic():
            for number in {place[0] for place in places}:
                self.catalogue.set_rows(number, self._tail.rows[number])
            for image, place in zip(self._images, places, strict=True):
                self.catalogue.put(image, *place)
            for id, file in self._moves:
                self.catalogue.move(id, file)
            for failure in self._failures:
                self.catalogue.journal.fail(failure)
        # The log grows by some ten kilobytes an image, which a first run over a million images must not pile up.
        self.catalogue.checkpoint(limit=LOG_LIMIT)
        self._images, self._vectors, self._moves, self._failures = [], [], [], []

    def remove(self, paths: Sequence[str]) -> list[Image]:
        """Take out the images and failures at these absolute paths or below them, and commit; return the images.

        Raises PathNotFound, and changes nothing, when there is nothing at one of the paths.
        """
        images, failures = list(self.catalogue.images()), list(self.catalogue.journal.failures())
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
            self.catalogue.journal.forget(forgotten)
        return [ids[id] for id in sorted(ids)]
