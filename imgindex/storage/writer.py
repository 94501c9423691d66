"""The writer of a store: collects changes and commits them together.

A commit appends the vectors of a batch to the open segment and syncs it. Then one SQLite transaction records the images
and the new number of rows. Before that transaction nothing refers to the new rows; after it everything is in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from imgindex.errors import PathNotFound
from imgindex.storage import tags
from imgindex.storage.catalogue import LOG_LIMIT, Catalogue
from imgindex.storage.named import find_named
from imgindex.storage.paths import RealPaths, StoredPath
from imgindex.storage.records import Location, NewImage
from imgindex.storage.segments import Segments, Tail
from imgindex.types import Failure, FoundFile, Image, Vectors


class Writer:
    """Collects changes and commits them together; readers never see a change before its commit."""

    def __init__(self, catalogue: Catalogue, segments: Segments) -> None:
        self.catalogue, self.segments = catalogue, segments
        self._tail = Tail(segments, catalogue.segments(), first=catalogue.next_segment())
        self._images: list[NewImage] = []
        self._vectors: list[Vectors] = []
        self._moves: list[tuple[int, FoundFile]] = []
        self._failures: list[Failure] = []
        self._spelling: tags.Spelling | None = None

    def __len__(self) -> int:
        """Return how many changes are not committed yet."""
        return len(self._images) + len(self._moves) + len(self._failures)

    def put(self, image: NewImage, vector: Vectors) -> None:
        """Record an image with its vector (dimension,)."""
        self._images.append(image)
        self._vectors.append(vector)

    def move(self, id: int, file: FoundFile) -> None:
        """Record that an image lies at `file` now."""
        self._moves.append((id, file))

    def fail(self, failure: Failure) -> None:
        """Record a failure."""
        self._failures.append(failure)

    def read(self, location: Location) -> Vectors:
        """Return one committed vector (dimension,). Raises IndexDamaged when its CRC32 differs."""
        maps = self.segments.maps({location.segment: self._tail.rows.get(location.segment, 0)})
        vector: Vectors = self.segments.read([location], maps)[0]
        return vector

    def begin_segment(self) -> None:
        """Write the next vectors to a new segment, even if the last one is not full."""
        self._tail = Tail(self.segments, {}, first=self.catalogue.next_segment())

    def commit(self) -> None:
        """Make all collected changes durable at once."""
        written = self._tail.append(np.stack(self._vectors)) if self._vectors else []
        real_paths = RealPaths()

        def real(file: FoundFile) -> StoredPath | None:
            return self.catalogue.paths.stored_real(file.path, real_paths.of(file.path))

        with self.catalogue.atomic():
            for number in {number for number, _, _ in written}:
                self.catalogue.set_rows(number, self._tail.rows[number])
            self.catalogue.put_each(
                (image, *place, real(image.file)) for image, place in zip(self._images, written, strict=True)
            )
            for id, file in self._moves:
                self.catalogue.move(id, file, real=real(file))
            for file in (*(image.file for image in self._images), *(file for _, file in self._moves)):
                if file.metadata:
                    self._describe(file, file.metadata)
            for failure in self._failures:
                self.catalogue.ledger.fail(failure)
        # The log grows by about 10 kB an image, too much to keep for a first run over a million images.
        self.catalogue.checkpoint(limit=LOG_LIMIT)
        self._images, self._vectors, self._moves, self._failures = [], [], [], []

    def _describe(self, file: FoundFile, metadata: Mapping[str, tags.Value]) -> None:
        if self._spelling is None:
            self._spelling = tags.Spelling(self.catalogue)
        tags.describe(self.catalogue, self.catalogue.paths.stored(file.path), metadata, self._spelling)

    def remove(self, paths: Sequence[str]) -> list[Image]:
        """Delete the images and failures at these absolute paths or below them, and commit; return the images.

        Raises PathNotFound, and changes nothing, when the index has no image and no failure at one of the paths.
        """
        named = find_named(self.catalogue, paths, failures=True)
        for path in named.unknown:
            raise PathNotFound(f"the index has nothing at {path}", hint="see its images with `imgindex list`")
        removed = self.catalogue.records(named.images)
        with self.catalogue.atomic():
            self.catalogue.forget(named.images)
            self.catalogue.ledger.forget(named.failures)
        return removed
