"""Whether files are new to an index, or it holds them already, by their bytes or nearly; none of them is added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from imgindex.answers.curation import Checked
from imgindex.curating.turning import AS_IT_IS, Means
from imgindex.embedding.on_demand import Turn
from imgindex.errors import UnreadableImage
from imgindex.images.find import find
from imgindex.images.fingerprint import Content, read_content
from imgindex.searching import open_search
from imgindex.storage.store import Store
from imgindex.types import Failure, FoundFile, Progress, Vectors, VectorSearch

# Files that are searched for at once.
QUERIES = 128


def check(store: Store, roots: Sequence[str], distance: float, ways: Mapping[str, Turn], means: Means) -> list[Checked]:
    """Return what the index knows of each file under the roots, absolute paths, in their order.

    A file with the bytes of an image is not decoded. Raises IndexDamaged, and what making the embedder raises.
    """
    with store.reading():
        files = list(find(roots, skip=[store.path]))
        work = _Check(store, files)
        ways = AS_IT_IS | dict(ways)
        embedded = means.embed(work.unknown(), ways)
        while some := list(islice(embedded, QUERIES)):
            work.answer(some, list(ways), distance)
            means.on_progress(Progress("check", len(work.found), len(files)))
        return [work.found[place] for place in range(len(files))]


class _Check:
    """The files, and by their places in this list what has been found of them."""

    def __init__(self, store: Store, files: Sequence[FoundFile | Failure]) -> None:
        self.found: dict[int, Checked] = {}
        self._store, self._files = store, files
        self._search: VectorSearch | None = None

    def unknown(self) -> Iterator[tuple[int, bytes]]:
        """Yield the places and bytes of the files that no image has the bytes of; the others are found."""
        for place, file in enumerate(self._files):
            if isinstance(file, Failure):
                self.found[place] = Checked(file.path, "failed", reason=file.reason)
                continue
            try:
                content = read_content(file.path)
            except UnreadableImage as error:
                self.found[place] = Checked(file.path, "failed", reason=error.reason)
                continue
            twin = self._twin(file.path, content)
            if twin is None:
                yield place, content.data
            else:
                id, path = twin
                self.found[place] = Checked(file.path, "exact", match=path, distance=0.0, id=id)

    def _twin(self, path: str, content: Content) -> tuple[int, str] | None:
        """Return an image that is shown and has these bytes, if there is one: that at the same path before others."""
        twins = self._store.catalogue.image_paths(
            [twin.place.id for twin in self._store.catalogue.twins(content.sha256)]
        )
        same = [(id, other) for id, other in twins.items() if other == self._store.paths.canonical(path)]
        return next(iter([*same, *twins.items()]), None)

    def answer(
        self, some: Sequence[tuple[int, Vectors | UnreadableImage]], ways: Sequence[str], distance: float
    ) -> None:
        """Find the images nearest to some files, each with a vector for every way in which it was turned."""
        able: list[tuple[int, Vectors]] = []
        for place, vectors in some:
            if isinstance(vectors, UnreadableImage):
                self.found[place] = Checked(self._files[place].path, "failed", reason=vectors.reason)
            else:
                able.append((place, vectors))
        if not able:
            return
        self._search = self._search or open_search(self._store)
        near = self._search.search(np.concatenate([vectors for _, vectors in able]), 1)
        ids, distances = near.ids.reshape(len(able), len(ways)), near.distances.reshape(len(able), len(ways))
        best = distances.argmin(axis=1)
        paths = self._store.catalogue.image_paths(set(ids[ids >= 0].tolist()))
        for (place, _), way, of_ids, of_distances in zip(able, best.tolist(), ids, distances, strict=True):
            path, id, apart = self._files[place].path, int(of_ids[way]), float(of_distances[way])
            if id < 0:
                self.found[place] = Checked(path, "new")
                continue
            status = "near" if apart <= distance else "new"
            self.found[place] = Checked(path, status, paths[id], apart, ways[way], id)
