"""Whether an index already holds files, by their bytes or by near vectors; nothing is added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from imgindex.curation.rotations import IDENTITY, EmbeddingContext, transforms_of
from imgindex.curation.thresholds import threshold
from imgindex.decoding.plugins import readable_raw_endings
from imgindex.errors import UnreadableImage
from imgindex.recipe import Recipe
from imgindex.results import LookupResult
from imgindex.search.lifecycle import load_search
from imgindex.sources.content import Content, read_content
from imgindex.sources.local import find_files, only_images
from imgindex.storage.store import Store
from imgindex.types import Failure, FoundFile, Progress, Vectors, VectorSearch

# Files that are searched for at once.
QUERIES = 128


def lookup(
    store: Store,
    recipe: Recipe,
    roots: Sequence[str],
    context: EmbeddingContext,
    *,
    distance: float | None,
    rotations: bool,
    flips: bool,
) -> list[LookupResult]:
    """Return what the index knows of each file at or below the roots, absolute paths, in the order of the files.

    A file that has the bytes of an image is not decoded. The parameters are those of `ImageIndex.lookup`. Raises
    UsageError, IndexDamaged, and what making the encoder raises.
    """
    near, transforms = threshold(recipe, distance), IDENTITY | transforms_of(rotations=rotations, flips=flips)
    with store.reading():
        found = find_files(roots, skip=[store.path], further_endings=readable_raw_endings())
        files = list(only_images(found))
        work = _Lookup(store, files)
        embedded = context.embed(work.unknown(), transforms)
        while batch := list(islice(embedded, QUERIES)):
            work.search(batch, list(transforms), near)
            context.on_progress(Progress("lookup", len(work.found), len(files)))
        return [work.found[place] for place in range(len(files))]


class _Lookup:
    """The files of one lookup, and in `found` their results by place in the list of files."""

    def __init__(self, store: Store, files: Sequence[FoundFile | Failure]) -> None:
        self.found: dict[int, LookupResult] = {}
        self._store, self._files = store, files
        self._search: VectorSearch | None = None

    def unknown(self) -> Iterator[tuple[int, bytes]]:
        """Yield place and bytes of each file whose bytes no image has; the results of the others go to `found`."""
        for place, file in enumerate(self._files):
            if isinstance(file, Failure):
                self.found[place] = LookupResult(file.path, "failed", reason=file.reason)
                continue
            try:
                content = read_content(file.path)
            except UnreadableImage as error:
                self.found[place] = LookupResult(file.path, "failed", reason=error.reason)
                continue
            same = self._image_with(content, file.path)
            if same is None:
                yield place, content.data
            else:
                id, path = same
                self.found[place] = LookupResult(file.path, "exact", match=path, distance=0.0, id=id)

    def _image_with(self, content: Content, path: str) -> tuple[int, str] | None:
        """Return id and path of a present image with these bytes, preferably the one at `path`; None without one."""
        catalogue = self._store.catalogue
        found = catalogue.find(path)
        stored = path if found is None else found[0]
        paths = catalogue.image_paths([image.location.id for image in catalogue.same_content(content.sha256)])
        return min(paths.items(), key=lambda item: item[1] != stored, default=None)

    def search(
        self, batch: Sequence[tuple[int, Vectors | UnreadableImage]], transforms: Sequence[str], distance: float
    ) -> None:
        """Find the nearest image of each file of a batch, which has a vector for each transform."""
        able: list[tuple[int, Vectors]] = []
        for place, vectors in batch:
            if isinstance(vectors, UnreadableImage):
                self.found[place] = LookupResult(self._files[place].path, "failed", reason=vectors.reason)
            else:
                able.append((place, vectors))
        if not able:
            return
        self._search = self._search or load_search(self._store)
        near = self._search.search(np.concatenate([vectors for _, vectors in able]), 1)
        ids, distances = (
            near.ids.reshape(len(able), len(transforms)),
            near.distances.reshape(len(able), len(transforms)),
        )
        best = distances.argmin(axis=1)
        paths = self._store.catalogue.image_paths(set(ids[ids >= 0].tolist()))
        for (place, _), number, of_ids, of_distances in zip(able, best.tolist(), ids, distances, strict=True):
            path, id, nearest = self._files[place].path, int(of_ids[number]), float(of_distances[number])
            if id < 0:
                self.found[place] = LookupResult(path, "new")
                continue
            status = "near" if nearest <= distance else "new"
            self.found[place] = LookupResult(path, status, paths[id], nearest, transforms[number], id)
