"""What an index holds and is, to be read: images, failures, vectors, counts, and whether it is sound."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imgindex.embedding.recipe import Recipe
from imgindex.storage.paths import shown, shown_records
from imgindex.storage.store import Store
from imgindex.types import Failure, Image, OnProgress, Path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgindex.storage.check import CheckReport
    from imgindex.types import Vectors


class Contents:
    """The readable half of an ImageIndex; paths open from the current folder: relative below it, absolute elsewhere."""

    def __init__(self, store: Store) -> None:
        self.path = store.path
        self.recipe = Recipe.from_json(store.recipe_json)
        self._store = store

    def __len__(self) -> int:
        return self._store.catalogue.count()["images"]

    def images(self, *, where: str | None = None) -> Iterator[Image]:
        """Yield what is known of the images, in the order of ids: of all, or of those that fulfil a condition.

        where: an SQL expression, as docs/questions.md says. Raises UsageError for what is none.
        """
        from imgindex.selecting import select
        from imgindex.storage import tags

        catalogue = self._store.catalogue
        with catalogue.snapshot():  # which needs no segments
            ids = select(self._store, where)
            only = None if ids is None else frozenset(ids.tolist())
            tagged, described = tags.of_images(catalogue), tags.described(catalogue)
        images = (image for image in catalogue.images() if only is None or image.id in only)
        if tagged or described:
            images = (replace(i, tags=tagged.get(i.id, ()), metadata=described.get(i.id, {})) for i in images)
        return shown_records(images)

    def failures(self) -> Iterator[Failure]:
        """Yield the ledger: the images that could not be read, and why."""
        return shown_records(self._store.catalogue.journal.failures())

    def ids(self) -> npt.NDArray[np.int64]:
        """Return the ids of the images (n,), rising."""
        import numpy as np

        return np.fromiter(self._store.catalogue.image_paths(), dtype=np.int64)

    def paths(self) -> list[str]:
        """Return the paths of the images, in the order of ids."""
        here = os.getcwd()
        return [shown(path, here=here) for path in self._store.catalogue.image_paths().values()]

    def vectors(self) -> Vectors:
        """Return the vectors of the images (n, dimension), in the order of ids. Raises IndexDamaged."""
        with self._store.reading():
            return self._store.vectors(list(self._store.catalogue.image_paths()))

    def export(
        self,
        out: Path,
        *,
        where: str | None = None,
        map: str = "pca",
        thumbnails: int = 192,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Write ids, paths and vectors to a file by its ending, .npz .npy .parquet .faiss or .csv; return the count.

        npz: `ids` int64 (n,), `paths` str (n,), `vectors` float32 (n, dimension). npy: the vectors alone. faiss: an
        IndexIDMap2 of them. parquet: also clusters, tags, metadata, x and y by `map` (pca, umap, tsne or none) and
        JPEGs of so many pixels, 0 for none. The file appears when it is whole.

        where: a condition on the images. Raises UsageError, IndexDamaged, ExtraMissing.
        """
        from imgindex.exporting import Wishes, export_index

        return export_index(self._store, os.fspath(out), Wishes(where, map, thumbnails), on_progress=on_progress)

    def verify(self, *, full: bool = False) -> CheckReport:
        """Check the index against its catalogue, and with `full` every vector against its CRC32; changes nothing."""
        from imgindex.storage.check import check

        return check(self.path, full=full)

    def status(self) -> dict[str, Any]:
        """Return counts, recipe, sizes on disk in bytes, roots and the last runs."""
        from imgindex.inspecting import status

        return status(self._store, self.recipe)
