"""ImageIndex, the whole of imgindex for a Python program: joins the parts and decides nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from imgindex.embedding.recipe import Recipe
from imgindex.errors import RecipeMismatch, UnreadableImage, UsageError
from imgindex.storage.paths import shown
from imgindex.storage.store import Store, exists
from imgindex.types import AddReport, Answer, Clustering, Embedder, Engine, Failure, Image, Match, OnProgress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgindex.storage.check import CheckReport
    from imgindex.types import Vectors

Path = str | os.PathLike[str]
DTYPES = {"fp32": "float32", "fp16": "float16"}
EXPORTED_AT_ONCE = 4096


class ImageIndex:
    """An index of images: vectors of one recipe, and what is known of the files that they were made of.

    Paths that it returns open from the current folder: relative below it, absolute elsewhere.
    Use it in one thread, and in a `with` block or with `close()`.
    """

    def __init__(self, store: Store, *, engine: Engine, weights: str | None = None) -> None:
        self.path = store.path
        self.recipe = Recipe.from_json(store.recipe_json)
        self.engine = engine
        self._store = store
        self._weights = weights
        self._embedder: Embedder | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        recipe: str | Recipe = "auto",
        size: int | None = None,
        weights: str | None = None,
        store: str = "fp32",
        engine: Engine | None = None,
    ) -> ImageIndex:
        """Make an index in the folder `path`.

        recipe: auto, vgg16-fc1, vgg16-pool5, article, or a Recipe of one's own. size: pixels, for vgg16-pool5.
        weights: a file, or random:SEED. store: fp32, or fp16 for half the space.

        Raises IndexExists, UsageError, WeightsUnavailable or WeightsMismatch.
        """
        from imgindex.embedding.choice import choose

        if store not in DTYPES:
            raise UsageError(f"vectors cannot be stored as {store!r}", hint="choose fp32 or fp16")
        if exists(os.fspath(path)):
            Store(os.fspath(path)).close()  # says what is wrong with it, if anything is
        if isinstance(recipe, Recipe):
            chosen, source = recipe, weights or recipe.weights
        else:
            choice = choose(recipe, size=size, weights=weights)
            chosen, source = choice.recipe, choice.weights.source
        settings = {
            "recipe": chosen.to_json(),
            "recipe_digest": chosen.digest,
            "dimension": str(chosen.dimension),
            "weights": source,
            "store": DTYPES[store],
        }
        return cls(Store.create(os.fspath(path), settings), engine=engine or Engine())

    @classmethod
    def open(cls, path: Path, *, weights: str | None = None, engine: Engine | None = None) -> ImageIndex:
        """Open an index. weights: where its weights file is now, if it was moved.

        Raises IndexNotFound, IndexDamaged or FormatTooNew.
        """
        store = Store(os.fspath(path))
        try:
            return cls(store, engine=engine or Engine(), weights=weights)
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()

    def __enter__(self) -> ImageIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self._store.catalogue.count()["images"]

    def require(self, *, recipe: str = "auto", size: int | None = None, store: str | None = None) -> None:
        """Raise RecipeMismatch unless this index has that recipe, side in pixels and storage."""
        has = self.recipe
        dtype = self._store.segments.dtype.name
        for asked, there, what in (
            (recipe, has.name, "recipe"),
            (size or has.side, has.side, "size"),
            (DTYPES.get(store or "", dtype), dtype, "store"),
        ):
            if asked not in (there, "auto"):
                raise RecipeMismatch(f"the index at {self.path} has the {what} {there}, not {asked}")

    @property
    def embedder(self) -> Embedder:
        """What turns pictures into vectors here; made on first use, and may be set to another one."""
        if self._embedder is None:
            from imgindex.embedding.choice import recall
            from imgindex.embedding.embedder import VggEmbedder

            source = self._store.catalogue.settings().get("weights", self.recipe.weights)
            weights = recall(self.recipe, source=source, weights=self._weights)
            self._embedder = VggEmbedder(self.recipe, weights, self.engine)
        return self._embedder

    @embedder.setter
    def embedder(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def add(
        self,
        paths: Iterable[Path],
        *,
        exclude: Sequence[str] = (),
        retry_failed: bool = False,
        dry_run: bool = False,
        on_progress: OnProgress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> AddReport:
        """Bring the index up to date with files and folders (read recursively).

        Unchanged images are not opened, renamed and copied ones not embedded again; those gone from these folders
        are shown no more. Whatever befalls one image is in `report.failures` and in the ledger.
        stop: asked after each batch; when it says True the run ends there, with nothing lost.

        Raises PathNotFound (and changes nothing) when a path is missing or unreadable, IndexLocked, IndexDamaged,
        and what the making of the embedder raises.
        """
        from imgindex.adding.run import add, preview
        from imgindex.adding.survey import Scope, Watch, check_roots

        scope = Scope(check_roots(paths), tuple(exclude), retry_failed)
        watch = Watch(on_progress or (lambda progress: None), stop or (lambda: False))
        if dry_run:
            report = preview(self._store, scope, watch)
        else:
            report = add(
                self._store,
                scope,
                recipe=self.recipe,
                engine=self.engine,
                make_embedder=lambda: self.embedder,
                watch=watch,
            )
        return replace(report, failures=tuple(_shown(report.failures)))

    def similar(
        self, image: Path, *, n: int = 10, max_distance: float | None = None, include_self: bool = False
    ) -> list[Match]:
        """Return the images nearest to one, nearest first; an indexed image is answered from its stored vector.

        max_distance: Euclidean, none farther is returned. Raises UnreadableImage when the image cannot be read.
        """
        answer = self.answers([image], n=n, max_distance=max_distance, include_self=include_self)[0]
        if answer.failure is not None:
            raise UnreadableImage(f"cannot read {answer.query}: {answer.failure.reason}", stage=answer.failure.stage)
        return answer.matches

    def answers(
        self, images: Iterable[Path], *, n: int = 10, max_distance: float | None = None, include_self: bool = False
    ) -> list[Answer]:
        """Return what `similar` returns, for many images at once; a failure takes the place of matches.

        Raises UsageError for n below 1 or a max_distance that is no distance.
        """
        from imgindex.querying import Limits, answer

        limits = Limits(n, max_distance, include_self)
        names = [os.fspath(image) for image in images]
        found = answer(self._store, names, limits, recipe=self.recipe, make_embedder=lambda: self.embedder)
        return [replace(one, matches=list(_shown(one.matches))) for one in found]

    def cluster(
        self,
        k: int,
        *,
        seed: int = 42,
        restarts: int | None = None,
        iterations: int | None = None,
        init: Vectors | None = None,
    ) -> Clustering:
        """Cluster all images by FAISS k-means with Euclidean distance; the same seed gives the same labels.

        init: initial centroids (k, dimension) instead of seeding. Raises TooFewDistinctVectors, UsageError.
        """
        from imgindex.clustering import cluster

        found = cluster(self._store, k, seed=seed, restarts=restarts, iterations=iterations, init=init)
        here = os.getcwd()
        return replace(found, paths=[shown(path, here=here) for path in found.paths])

    def images(self) -> Iterator[Image]:
        """Yield what is known of the images, in the order of ids."""
        return _shown(self._store.catalogue.images())

    def failures(self) -> Iterator[Failure]:
        """Yield the ledger: the images that could not be read, and why."""
        return _shown(self._store.catalogue.failures())

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
        with self._store.catalogue.snapshot():
            return self._store.vectors(list(self._store.catalogue.image_paths()))

    def remove(self, paths: Iterable[Path]) -> list[Image]:
        """Take images out, those below a folder too, and forget their failures; the files stay where they are.

        Returns the images taken out. Raises PathNotFound (and changes nothing) when the index has nothing at a path.
        """
        with self._store.writing() as writer:
            return list(_shown(writer.remove([os.path.abspath(os.fspath(path)) for path in paths])))

    def export(self, out: Path) -> int:
        """Write ids, paths and vectors to a file by its ending, .npz .npy .parquet or .csv; return the count.

        npz: `ids` int64 (n,), `paths` str (n,), `vectors` float32 (n, dimension). npy: the vectors alone. The file
        appears when it is whole. Raises UsageError for another ending, IndexDamaged.
        """
        from imgindex.reports.export import Table, export

        with self._store.catalogue.snapshot():
            here = os.getcwd()
            paths = self._store.catalogue.image_paths()
            ids = list(paths)
            starts = range(0, len(ids), EXPORTED_AT_ONCE)
            blocks = (self._store.vectors(ids[start : start + EXPORTED_AT_ONCE]) for start in starts)
            names = [shown(path, here=here) for path in paths.values()]
            export(os.fspath(out), Table(ids, names, self.recipe.dimension, blocks))
        return len(ids)

    def verify(self, *, full: bool = False) -> CheckReport:
        """Check the index against its catalogue, and with `full` every vector against its CRC32; changes nothing."""
        from imgindex.storage.check import check

        return check(self._store, full=full)

    def status(self) -> dict[str, Any]:
        """Return counts, recipe, sizes on disk in bytes, roots and the last runs."""
        store = self._store
        with store.catalogue.snapshot():
            return {
                "index": self.path,
                **store.catalogue.count(),
                "recipe": {**asdict(self.recipe), "digest": self.recipe.digest},
                "store": store.segments.dtype.name,
                "segments": len(store.catalogue.segments()),
                "bytes": store.bytes_on_disk(),
                "roots": store.catalogue.roots(),
                "runs": store.catalogue.runs(5),
            }


Record = TypeVar("Record", Image, Failure, Match)


def _shown(records: Iterable[Record]) -> Iterator[Record]:
    here = os.getcwd()
    return (replace(record, path=shown(record.path, here=here)) for record in records)
