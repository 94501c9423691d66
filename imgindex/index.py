"""ImageIndex, the whole of imgindex for a Python program: each method hands its parameters to the room that does it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, overload

from imgindex.arguments import checked
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import UsageError
from imgindex.recipe import DEFAULT, Recipe
from imgindex.results import (
    AddReport,
    Answer,
    Clustering,
    CompactReport,
    Disposal,
    Duplicates,
    ImportReport,
    LabelFormat,
    Leaks,
    LookupResult,
    Match,
    Outlier,
    Outliers,
    RepairReport,
    TagChange,
    TagReport,
    images_to_frame,
)
from imgindex.storage.paths import absolute, as_iterable, as_list, as_written, on_this_machine
from imgindex.storage.store import Store
from imgindex.types import CustomEncoder, Encoder, Engine, Failure, Image, OnProgress, Path, Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from imgindex.clustering.collection import Clusterings
    from imgindex.decoding.thumbnails import Thumbnail
    from imgindex.export.tables import Table
    from imgindex.gallery.builder import GalleryPage
    from imgindex.gallery.map import Map
    from imgindex.ingest.items import Pipeline
    from imgindex.ingest.store_recorder import StoreRecorder
    from imgindex.search.image_inputs import ImageInput
    from imgindex.search.query import Mix, QueryContext
    from imgindex.storage.verify import VerifyReport
    from imgindex.types import Vectors


OWN_ENCODER = "nodes of a Ray cluster make their encoder from the recipe, and cannot use one that was given here"
# The last runs that `status` returns.
RUNS = 5


def _ignore(progress: Progress) -> None:
    """Report progress to no one."""


def _reopened(path: str, weights: str | None, encoder: CustomEncoder | None, engine: Engine, wait: bool) -> ImageIndex:
    return ImageIndex.open(path, weights=weights, encoder=encoder, engine=engine, wait=wait)


@checked
class ImageIndex(AbstractContextManager["ImageIndex"]):
    """An index of images: their vectors, all made by one recipe, and what is known of their files.

    Paths are returned absolute, and accepted absolute or relative to the current folder. Close an index, or use it in a
    `with` block. Any thread may call its methods, and one of them may write at a time. Each call answers from one state
    of the index, the newest that was committed when it began, also by another process. A pickled index is opened again
    by its path; a process that was forked has to open it itself.

    >>> from imgindex import ImageIndex
    >>> with ImageIndex.create("album.imgindex", recipe="vgg16-pool5", size=96) as album:
    ...     report = album.add("photos")
    ...     matches = album.similar("photos/cat.jpg", n=3)
    """

    def __init__(
        self,
        store: Store,
        *,
        engine: Engine,
        weights: str | None = None,
        encoder: CustomEncoder | None = None,
        wait: bool = False,
    ) -> None:
        self.path = store.path
        self.engine = engine
        self._opened = store
        self._weights = weights
        self._wait = wait
        self._own_encoder = encoder
        self._encoder: Encoder | None = None
        with ExitStack() as stack:
            stack.callback(store.close)  # where an error follows
            self.recipe = Recipe.from_json(store.recipe_json)
            from imgindex.sources.registry import use_settings

            use_settings(store.settings)
            if encoder is not None:
                from imgindex.encoders.custom import adapted

                self._encoder = adapted(encoder, self.recipe)
            stack.pop_all()
        self._encoder_lock = threading.Lock()
        self._decoders = DecoderPool(self.recipe, hashes=True)

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        recipe: str | Recipe = DEFAULT,
        size: int | None = None,
        weights: str | None = None,
        encoder: CustomEncoder | None = None,
        store: str = "fp32",
        engine: Engine | None = None,
        wait: bool = False,
    ) -> ImageIndex:
        """Make an index in the folder `path`, and open it.

        recipe: vgg16-pool5, vgg16-fc1, efficientnet-lite2, article, or a Recipe that one of their networks can follow.
        size: the side in pixels of vgg16-pool5, a multiple of 32. weights: a file, or random:SEED. encoder: a network
        of your own instead of these three, see `CustomEncoder`; the index keeps its digest. store: fp32, or fp16 for
        half the space. engine: the device and precision that compute vectors. wait: wait while another process or
        thread writes to the index, instead of raising IndexLocked.

        Raises IndexExists, UsageError, WeightsUnavailable or WeightsMismatch.

        >>> index = ImageIndex.create("small.imgindex", recipe="vgg16-pool5", size=96)
        >>> index.close()
        """
        from imgindex.encoders.registry import new_index_settings
        from imgindex.storage.store import check_free

        where = on_this_machine(path)
        check_free(where)
        settings = new_index_settings(recipe, size=size, weights=weights, store=store, encoder=encoder)
        opened = Store.create(where, settings)
        return cls(opened, engine=engine or Engine(), weights=weights, encoder=encoder, wait=wait)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        weights: str | None = None,
        encoder: CustomEncoder | None = None,
        engine: Engine | None = None,
        wait: bool = False,
        condition_seconds: float = 30,
    ) -> ImageIndex:
        """Open the index in the folder `path`.

        weights: where the weights file of this index is now, if it was moved. encoder: the network of your own that the
        index was made with. Without it such an index can do all that needs no new vectors; the rest raises
        EncoderMissing. engine, wait: as in `create`. condition_seconds: how long a condition `where` may take, before
        UsageError is raised.

        Raises IndexNotFound, IndexDamaged or FormatTooNew; RecipeMismatch for another encoder, or where the index was
        made without one.

        >>> with ImageIndex.open("photos.imgindex") as photos:
        ...     len(photos) == len(index)
        True
        """
        store = Store(on_this_machine(path))
        store.condition_seconds = condition_seconds
        return cls(store, engine=engine or Engine(), weights=weights, encoder=encoder, wait=wait)

    def close(self) -> None:
        """Close the index's files, and end the processes that decode images. Other methods then raise IndexClosed."""
        self._decoders.close()
        self._opened.close()

    @property
    def _store(self) -> Store:
        """The store. Raises IndexClosed, so that every method does, even one that reads the catalogue later."""
        self._opened.check_open()
        return self._opened

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process opens this index again."""
        return _reopened, (self.path, self._weights, self._own_encoder, self.engine, self._wait)

    def __len__(self) -> int:
        return self._store.catalogue.count()["images"]

    def __iter__(self) -> Iterator[Image]:
        return self.images()

    def __contains__(self, path: object) -> bool:
        """Return whether the index has an image at a path, through links too; the file itself is not looked at."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        found = self._store.catalogue.find(as_written(path))
        return found is not None and bool(found[1].present)

    def __repr__(self) -> str:
        if self._opened.is_closed:
            return f"<ImageIndex {self.path!r}, closed>"
        counts = [(len(self), "image"), (len(self.clusterings), "clustering")]
        counted = ", ".join(f"{number:,} {noun}{'' if number == 1 else 's'}" for number, noun in counts)
        return f"<ImageIndex {self.path!r}, {self.recipe.name} at {self.recipe.side} px, {counted}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the text of `repr`, and pictures of a few images, evenly taken."""
        if self._opened.is_closed:
            from html import escape

            return f"<p>{escape(repr(self))}</p>"
        from imgindex.gallery.builder import overview

        return overview(self._store, repr(self))

    def require(self, *, recipe: str | None = None, size: int | None = None, store: str | None = None) -> None:
        """Raise RecipeMismatch unless this index has that recipe, side in pixels and storage.

        >>> index.require(recipe="vgg16-pool5", size=96)
        """
        from imgindex.encoders.registry import require_settings

        dtype = self._store.segments.dtype.name
        require_settings(self.path, self.recipe, dtype, recipe=recipe, size=size, store=store)

    @property
    def encoder(self) -> Encoder:
        """The encoder that turns pictures into vectors for this index; it is made on first use.

        Raises EncoderMissing, WeightsUnavailable, RecipeMismatch or DeviceUnavailable when it cannot be made.
        """
        store = self._store
        with self._encoder_lock:
            if self._encoder is None:
                from imgindex.encoders.registry import make_encoder

                self._encoder = make_encoder(self.recipe, store.settings, self._weights, self.engine)
            return self._encoder

    # Images in and out.

    def add(
        self,
        paths: Path | Iterable[Path],
        *,
        exclude: str | Sequence[str] = (),
        retry_failed: bool = False,
        rehash: bool = False,
        archives: bool = False,
        anonymous: bool | None = None,
        dry_run: bool = False,
        ray: str | None = None,
        on_progress: OnProgress | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> AddReport:
        """Bring the index up to date with one or several files, folders and archives; folders are read recursively.

        A zip or tar is read in place, like a folder: its images have paths such as set.zip/cat/1.jpg. So are objects
        below an address such as s3://bucket/photos; an image on the web has an address of its own. Keys come from the
        environment variables of the store.

        An image is not opened if its size, times and inode are as recorded. Renamed and copied ones are not embedded
        again. Images that are gone from these folders no longer appear in answers. An image that cannot be read is
        listed in `report.failures` and in the ledger, and is tried again when its file changes.

        exclude: a glob, or several, of files and folders to leave out. retry_failed: try known failures again. rehash:
        read all files, and compare their bytes with those that were added. archives: search the archives in folders
        too; those that are named always are. anonymous: from now on, read the buckets of these addresses without
        credentials (True), or with them (False). dry_run: report what would be done, and change nothing. ray: embed on
        the nodes of this Ray cluster, HOST:PORT, or local for a Ray of this machine; the nodes read the files. stop:
        called after each batch; when it returns True the run ends, and what was done is kept.

        Raises PathNotFound (and changes nothing) when a path is missing or unreadable; SourceUnavailable (and removes
        nothing) when a server does not answer or rejects the credentials; IndexLocked; IndexDamaged;
        WeightsUnavailable, RecipeMismatch or DeviceUnavailable when no encoder can be made.

        >>> report = index.add("photos")
        >>> report.added, report.failed, report.unchanged == report.found
        (0, 0, True)
        """
        from imgindex.ingest.control import RunControl
        from imgindex.ingest.run import add, preview

        if ray is not None:
            self._check_ray(ray)

        control = RunControl(on_progress or _ignore, stop or (lambda: False), self._wait)
        if dry_run:
            return preview(
                self._store,
                as_list(paths),
                exclude=as_list(exclude),
                retry_failed=retry_failed,
                rehash=rehash,
                archives=archives,
                anonymous=anonymous,
                control=control,
            )
        return add(
            self._store,
            as_list(paths),
            exclude=as_list(exclude),
            retry_failed=retry_failed,
            rehash=rehash,
            archives=archives,
            anonymous=anonymous,
            make_pipeline=lambda recorder: self._pipeline(recorder, ray),
            control=control,
        )

    def _pipeline(self, recorder: StoreRecorder, ray: str | None) -> Pipeline:
        """Return what takes files to a recorder: on this machine, or on the nodes of a cluster."""
        if ray is None:
            from imgindex.ingest.pipeline import IngestPipeline

            return IngestPipeline(recorder, self._decoders, lambda: self.encoder, self.engine.workers)
        from imgindex.ingest.ray_pipeline import RayPipeline

        return RayPipeline(
            recorder,
            ray,
            recipe=self.recipe,
            settings=self._store.settings,
            weights=self._weights,
            engine=self.engine,
            hashes=True,
        )

    def remove(self, paths: Path | Iterable[Path]) -> list[Image]:
        """Take images out of the index, those below a folder too, and forget their failures; no file is touched.

        Returns the images that were taken out. Raises IndexLocked, or PathNotFound (and changes nothing) when the index
        has no image at a path.

        >>> [os.path.basename(image.path) for image in index.remove("photos/cat.jpg")]
        ['cat.jpg']
        >>> index.add("photos").added
        1
        """
        with self._store.writing(wait=lambda: self._wait) as writer:
            return list(writer.remove([as_written(path) for path in as_list(paths)]))

    def images(self, *, where: str | None = None, ids: Sequence[int] | None = None) -> Iterator[Image]:
        """Yield the images in the order of their ids: all of them, or those that fulfil the SQL condition `where`.

        ids: only the images with these ids, in this order; an id that no image has is left out.
        docs/questions.md lists the columns of a condition. Raises UsageError when it is not a condition.

        >>> wide = [image.path for image in index.images(where="width > 2 * height")]
        """
        from imgindex.search.filters import images

        return images(self._store, where, ids)

    def to_frame(self, *, where: str | None = None) -> pd.DataFrame:
        """Return the images as a pandas DataFrame, in the order of ids: those that `images` yields.

        It has the columns id, path, width, height, format, size, modified, sha256 and tags, and one for each key of
        metadata. Raises UsageError when `where` is not a condition.

        >>> index.to_frame(where="width >= 64")["path"].tolist() == [i.path for i in index.images(where="width >= 64")]
        True
        """
        return images_to_frame(self.images(where=where))

    def failures(self) -> Iterator[Failure]:
        """Yield the ledger: the images that could not be read, each with the stage and the reason.

        >>> [failure.reason for failure in index.failures()]
        []
        """
        store = self._store

        def read() -> Iterator[Failure]:
            yield from store.catalogue.ledger.failures()

        return store.each(read, with_vectors=False)

    def ids(self, *, where: str | None = None, sort: str = "id") -> npt.NDArray[np.int64]:
        """Return the ids of the images (n,): all of them, or those that fulfil the SQL condition `where`.

        sort: id, path, size, modified, added_at, width, height or pixels; "-size" sorts from the greatest to the least.
        Raises UsageError.

        >>> index.ids(where="width > 0", sort="-size").shape == (len(index),)
        True
        """
        from imgindex.search.filters import sorted_ids

        return sorted_ids(self._store, where, sort)

    def paths(self) -> list[str]:
        """Return the absolute paths of the images, in the order of ids.

        >>> paths, vectors = index.paths(), index.vectors()
        >>> len(paths) == len(vectors)
        True
        """
        return list(self._store.catalogue.image_paths().values())

    def vectors(self, ids: Sequence[int] | None = None) -> Vectors:
        """Return the vectors of the images, float32 (n, dimension), in the order of ids, or of those with `ids`.

        Raises IndexDamaged, also for an id that no image has.
        """
        with self._store.reading():
            return self._store.vectors(list(self._store.catalogue.image_paths()) if ids is None else ids)

    # Search.

    @overload
    def similar(
        self,
        image: ImageInput | Mix,
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
        rerank: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Match]: ...

    @overload
    def similar(
        self,
        image: list[Any],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
        rerank: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[list[Match]]: ...

    def similar(
        self,
        image: ImageInput | Mix | list[Any],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
        rerank: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Match] | list[list[Match]]:
        """Return the n images nearest to an image, or to a `Mix` of images, nearest first; of several, a list for each.

        An image may be a path, a Pillow image, a uint8 array (h, w, 3), bytes, an open file, or a vector (dimension,).
        One of the index is answered from its stored vector. There are fewer than n matches when fewer images
        fulfil the conditions. max_distance: Euclidean; no match is farther. include_self: whether the image itself may
        be a match. where: an SQL condition on the matches.

        rerank: average each vector with its 8 nearest neighbours, and compare the averages (Turcot and Lowe 2009;
        Arandjelović and Zisserman 2012). A neighbour's weight is cos³ of the angle to it. Distances are then those
        between averages. The averages are made when they are first needed, and are kept in the index where it can be
        written to; on_progress is called meanwhile.

        Raises UnreadableImage when the image cannot be read, UsageError, IndexDamaged.

        >>> for match in index.similar("photos/cat.jpg", n=3, where="width >= 64"):
        ...     print(match.rank, match.path)  # doctest: +ELLIPSIS
        1 ...
        >>> [match.rank for match in index.similar("photos/cat.jpg", n=2, rerank=True)]
        [1, 2]
        """
        from imgindex.errors import UnreadableImage
        from imgindex.search.image_inputs import is_single

        answers = self.answers(
            image,
            n=n,
            max_distance=max_distance,
            include_self=include_self,
            where=where,
            rerank=rerank,
            on_progress=on_progress,
        )
        for answer in answers:
            if answer.failure is not None:
                failure = answer.failure
                raise UnreadableImage(f"cannot read {failure.path}: {failure.reason}", stage=failure.stage)
        return answers[0].matches if is_single(image) else [answer.matches for answer in answers]

    def vector(self, image: ImageInput | Mix | Iterable[ImageInput | Mix]) -> Vectors:
        """Return the vector of an image, float32 (dimension,), or of several, (n, dimension).

        Images are given as to `similar`. The vector of an image of the index is the stored one; others are computed.
        Raises UnreadableImage, UsageError.

        >>> cat = index.vector("photos/cat.jpg")
        >>> [match.rank for match in index.similar(cat, n=1)]
        [1]
        """
        import numpy as np

        from imgindex.search.image_inputs import as_images, is_single
        from imgindex.search.query import vectors_of

        found = vectors_of(self._query_context(), as_images(image))
        vectors = np.stack([query.vector for query in found]) if found else np.empty((0, self.recipe.dimension))
        return vectors[0] if is_single(image) else vectors.astype(np.float32)

    def answers(
        self,
        images: ImageInput | Mix | Iterable[ImageInput | Mix],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
        rerank: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Answer]:
        """Return what `similar` returns, for many images at once; an unreadable one has a failure instead of matches.

        Raises UsageError for n below 1, a max_distance that is not a distance, or a `where` that is not a condition.

        >>> cat, mixed = index.answers(["photos/cat.jpg", Mix(plus=["photos/cat.jpg"], minus=["photos/1.jpg"])], n=2)
        >>> len(cat.matches), mixed.query
        (2, 'photos/cat.jpg - photos/1.jpg')
        """
        return list(
            self.each_answer(
                images,
                n=n,
                max_distance=max_distance,
                include_self=include_self,
                where=where,
                rerank=rerank,
                on_progress=on_progress,
            )
        )

    def each_answer(
        self,
        images: ImageInput | Mix | Iterable[ImageInput | Mix],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
        rerank: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Generator[Answer, None, None]:
        """Yield what `answers` returns, one answer at a time; a few hundred are in memory at once.

        All are answered from the state that the index has when the first one is asked for.

        >>> for answer in index.each_answer(index.paths(), n=1):
        ...     nearest = answer.matches[0].path
        """
        from imgindex.search.image_inputs import as_images
        from imgindex.search.query import answer

        return answer(
            self._query_context(),
            as_images(images),
            n=n,
            max_distance=max_distance,
            include_self=include_self,
            where=where,
            rerank=rerank,
            on_progress=on_progress or _ignore,
        )

    # Clusterings.

    def cluster(
        self,
        k: int | range | None = None,
        *,
        seed: int = 42,
        restarts: int | None = None,
        iterations: int | None = None,
        init: Vectors | None = None,
        anchors: Mapping[str, ImageInput | Iterable[ImageInput]] | None = None,
        balanced: bool = False,
        max_size: int | None = None,
        smooth: bool = False,
        where: str | None = None,
        label_format: LabelFormat | None = None,
        ray: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Clustering:
        """Cluster the images by FAISS k-means with Euclidean distance, and keep the clustering in the index.

        The same seed gives the same labels. Label 0 is the largest cluster. Clusters that hold mostly the same images
        as one of the newest clustering before keep its id and its name. An index that cannot be written to is no error:
        `Clustering.not_kept` then says why the clustering was not kept.

        k: the number of clusters, a range to choose it from by the silhouette, or None for a choice from 2 to 40, or
        for as many as there are anchors.
        restarts: how many starts are tried, of which the one with the least objective is kept; None: by the size.
        iterations: at most so many in each start; None: 300.
        init: centroids float32 (k, dimension) to begin with.
        anchors: images by the name of the cluster that begins with them.
        balanced: make clusters whose sizes differ by at most one. max_size: make no cluster larger than this.
        smooth: average each vector with its 8 nearest neighbours before, as `similar` does with rerank.
        where: an SQL condition on the images that are clustered; all images may be neighbours.
        label_format: how the labels are going to be written; ids that it cannot write are reported before the work.
        ray: make the k-means steps on the nodes of this Ray cluster, HOST:PORT, or local; the labels are the same.

        Raises ClusterUnavailable, TooFewDistinctVectors, UsageError, UnreadableImage, DeviceUnavailable, IndexDamaged.

        >>> clustering = index.cluster(k=3, seed=7)
        >>> sum(clustering.sizes) == len(index)
        True
        """
        from imgindex.clustering.run import cluster

        return cluster(
            self._store,
            k,
            seed=seed,
            restarts=restarts,
            iterations=iterations,
            init=init,
            anchors=self._anchor_vectors(anchors or {}, smooth, on_progress or _ignore),
            balanced=balanced,
            max_size=max_size,
            smooth=smooth,
            where=where,
            label_format=label_format,
            device=self.engine.device,
            ray=ray,
            wait=lambda: self._wait,
            on_progress=on_progress or _ignore,
        )

    @property
    def clusterings(self) -> Clusterings:
        """The clusterings that are kept in the index, a collection by id.

        >>> [summary.id for summary in index.clusterings]
        [1]
        >>> index.clusterings.newest.k == index.clusterings[1].k
        True
        """
        from imgindex.clustering.collection import Clusterings

        return Clusterings(self._store, wait=lambda: self._wait, read_examples=self._anchor_vectors)

    def _anchor_vectors(
        self,
        anchors: Mapping[str, ImageInput | Iterable[ImageInput]],
        smooth: bool,
        on_progress: OnProgress = _ignore,
    ) -> dict[str, Vectors]:
        """Return the vectors (m, dimension) of the examples of each anchor by its name, averaged with smooth."""
        from imgindex.search.image_inputs import as_images
        from imgindex.search.query import anchor_vectors
        from imgindex.search.upkeep import prepare_smoothing

        context = self._query_context()
        if smooth and anchors:
            prepare_smoothing(self._store, on_progress)
        return {
            name: anchor_vectors(context, name, as_images(images), smooth=smooth) for name, images in anchors.items()
        }

    def label_table(self, clustering: Clustering, label_format: LabelFormat | None = None) -> Table:
        """Return the labels of a clustering as a table with a row an image, whose `columns` are those of the CSV.

        label_format: what an ImageID is, and which columns there are; None for the format that the clustering was made
        with. Columns that depend on vectors, such as distance, are computed from the vectors of today.

        Raises UsageError where two images have one ImageID, SampleMismatch, IndexDamaged.

        >>> index.label_table(index.clusterings.newest, LabelFormat(id="name")).columns
        ['ImageID', 'label']
        """
        from imgindex.clustering.labels import label_table

        return label_table(self._store, clustering, label_format or clustering.label_format)

    def write_labels(
        self, clustering: Clustering, out: Path, label_format: LabelFormat | None = None, *, overwrite: bool = False
    ) -> None:
        """Write the table that `label_table` returns to a CSV file.

        overwrite: replace a file that imgindex did not write. Raises FileNotOurs when `out` is such a file, as
        `label_table`, and OSError.

        >>> index.write_labels(index.clusterings.newest, "submission.csv")
        """
        from imgindex.export.tables import render
        from imgindex.export.targets import writing

        table = self.label_table(clustering, label_format)
        with writing(on_this_machine(out), overwrite=overwrite, index=self._store.path) as file:
            file.write(render(table, "csv"))

    # Curation.

    def duplicates(
        self,
        *,
        exact: bool = False,
        similar: bool = False,
        distance: float | None = None,
        keep: str = "original",
        prefer: str | Sequence[str] = (),
        rotations: bool = False,
        flips: bool = False,
        where: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Duplicates:
        """Return groups of images that duplicate each other, and which one of each group to keep; changes no image.

        Every image of a group has a grade: `same` has the bytes of the kept image, and `copy` shows the same picture,
        which was verified on the pixels of both. Results of comparisons are kept in the index where it can be written.
        Every file of a group is read: one that has changed since it was added is neither kept nor disposable.

        exact: compare bytes alone. similar: also return images that are near, with the grade `similar`; they may show
        something else. distance: how near those are (Euclidean); None: the distance that was calibrated for the recipe.
        keep: original, largest, sharpest or oldest. prefer: globs; an image that matches the first one is kept before
        others. rotations, flips: also find copies that were turned by 90°, 180° or 270°, or mirrored. where: an SQL
        condition on the images that are compared.

        Raises UsageError for an impossible distance, or when none is given and none is calibrated; IndexDamaged.

        >>> for group in index.duplicates(exact=True).groups:
        ...     print(group.kept.path, group.why)
        """
        from imgindex.curation.duplicates import duplicates

        return duplicates(
            self._store,
            self.recipe,
            self._decoders,
            exact=exact,
            similar=similar,
            distance=distance,
            keep=keep,
            prefer=tuple(as_iterable(prefer)),
            rotations=rotations,
            flips=flips,
            where=where,
            on_progress=on_progress or _ignore,
            wait=lambda: self._wait,
        )

    def move_duplicates(
        self, found: Duplicates, folder: Path, *, dry_run: bool = False, on_progress: OnProgress | None = None
    ) -> Disposal:
        """Move the disposable files of `found` to a folder, with their sidecars and below the names of their folders.

        Each file, and the kept one of its group, is read again: only a file with the bytes that were compared is moved.
        No file is replaced, and none is deleted. The images are missing from then on. The folder is new, empty, or was
        filled by this method; `undo_move` moves everything back. dry_run: return what would be moved.

        Raises FolderNotOurs, UsageError, IndexLocked, OSError.

        >>> index.move_duplicates(index.duplicates(exact=True), "spare").files
        ()
        """
        from imgindex.curation.disposal import move_to

        wait, where = self._wait, on_this_machine(folder)
        report = on_progress or _ignore
        return move_to(self._store, found, where, dry_run=dry_run, on_progress=report, wait=lambda: wait)

    def trash_duplicates(
        self, found: Duplicates, *, dry_run: bool = False, on_progress: OnProgress | None = None
    ) -> Disposal:
        """Put the disposable files of `found` into the system's trash; otherwise as `move_duplicates`.

        >>> index.trash_duplicates(index.duplicates(exact=True), dry_run=True).files
        ()
        """
        from imgindex.curation.disposal import trash

        wait = self._wait
        return trash(self._store, found, dry_run=dry_run, on_progress=on_progress or _ignore, wait=lambda: wait)

    def undo_move(self, folder: Path, *, dry_run: bool = False, on_progress: OnProgress | None = None) -> Disposal:
        """Move what `move_duplicates` moved to a folder back, and have the images in answers again.

        Works too after a move that was interrupted. A file is not moved over another one: it is in `failures`, and
        stays in the folder. Raises FolderNotOurs, IndexLocked, OSError.

        >>> index.undo_move("spare")
        Traceback (most recent call last):
        imgindex.errors.FolderNotOurs: ...
        """
        from imgindex.curation.disposal import undo

        wait, where = self._wait, on_this_machine(folder)
        return undo(where, self._store, dry_run=dry_run, on_progress=on_progress or _ignore, wait=lambda: wait)

    def outliers(self, *, n: int = 20, on_progress: OnProgress | None = None) -> Outliers:
        """Return the n images that are least like any other, the least alike first, each with the likely reason.

        Raises UsageError for n below 1, IndexDamaged.

        >>> [outlier.rank for outlier in index.outliers(n=3)]
        [1, 2, 3]
        """
        from imgindex.curation.outliers import outliers

        return outliers(self._store, self.recipe, n, self._decoders, on_progress=on_progress or _ignore)

    def lookup(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        similar: bool = False,
        distance: float | None = None,
        rotations: bool = False,
        flips: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[LookupResult]:
        """Return for each file, or file in a folder, whether the index has it: same, copy, new, or failed.

        Images in memory may be given as in `similar`; their results follow those of files.

        Nothing is added. The grades are those of `duplicates`. similar, distance: new files that are near to an image
        are `similar`. rotations, flips: also find turned and mirrored copies.

        Raises PathNotFound when a path is missing or unreadable, UsageError as `duplicates`, IndexDamaged.

        >>> index.lookup("photos/cat.jpg")[0].how
        'same'
        """
        from imgindex.curation.lookup import lookup
        from imgindex.errors import UsageError
        from imgindex.ingest.mounts import check_roots
        from imgindex.search.image_inputs import as_images, as_input

        inputs = [as_input(image, self.recipe.dimension) for image in as_images(images)]
        in_memory = [one for one in inputs if not isinstance(one, str)]
        if any(one.vector is not None for one in in_memory):
            raise UsageError("a vector cannot be looked up", hint="give the picture itself, or search with `similar`")
        return lookup(
            self._store,
            self.recipe,
            self._decoders,
            lambda: self.encoder,
            check_roots(one for one in inputs if isinstance(one, str)),
            in_memory=in_memory,
            similar=similar,
            distance=distance,
            rotations=rotations,
            flips=flips,
            on_progress=on_progress or _ignore,
            wait=lambda: self._wait,
        )

    def leak(
        self,
        a: Path,
        b: Path,
        *,
        similar: bool = False,
        distance: float | None = None,
        n: int = 10,
        on_progress: OnProgress | None = None,
    ) -> Leaks:
        """Return pairs of an image below the folder `a` and one below `b` that duplicate each other, nearest first.

        The grades are those of `duplicates`, and so are similar and distance. n: how many images of `b`, the nearest,
        are compared with each image of `a`. An image below both folders makes no pair with itself.

        Raises PathNotFound where the index has no image below one of them, UsageError as `duplicates`, IndexDamaged.

        >>> index.leak("photos/cat.jpg", "photos/1.jpg")
        <Leaks: 0 pairs>
        """
        from imgindex.curation.leaks import leak

        return leak(
            self._store,
            self.recipe,
            self._decoders,
            as_written(a),
            as_written(b),
            similar=similar,
            distance=distance,
            n=n,
            on_progress=on_progress or _ignore,
            wait=lambda: self._wait,
        )

    # Tags and metadata.

    def tag(
        self,
        name: str,
        paths: Path | Iterable[Path] | None = None,
        *,
        where: str | None = None,
        remove: bool = False,
    ) -> TagReport:
        """Put a tag on images, those below a folder too, or on those that fulfil a condition; or take the tag off.

        Raises UsageError for an impossible tag or condition, PathNotFound (and changes nothing) when the index has no
        image at a path, IndexLocked.

        >>> index.tag("cat", "photos/cat.jpg").changed
        1
        >>> [os.path.basename(image.path) for image in index.images(where="tags match 'cat'")]
        ['cat.jpg']
        """
        from imgindex.curation.metadata import tag

        named = None if paths is None else [as_written(path) for path in as_list(paths)]
        return tag(self._store, name, named, where, remove=remove, wait=lambda: self._wait)

    def change_tags(
        self, ids: Iterable[int], *, add: str | Sequence[str] = (), remove: str | Sequence[str] = ()
    ) -> TagChange:
        """Put tags on the images with these ids, and take others off, all of it or nothing.

        The result names the ids that were changed, by which the change can be undone. Raises UsageError for an
        impossible tag, PathNotFound for an id that no image has, IndexLocked.

        >>> first = int(index.ids()[0])
        >>> index.change_tags([first], add="draft").added
        {'draft': (1,)}
        >>> index.change_tags([first], remove="draft").removed
        {'draft': (1,)}
        """
        from imgindex.curation.metadata import change_tags

        added, removed = tuple(as_iterable(add)), tuple(as_iterable(remove))
        return change_tags(self._store, ids, add=added, remove=removed, wait=lambda: self._wait)

    def tags(self) -> dict[str, int]:
        """Return how many images have each tag, the most frequent first.

        >>> index.tags()
        {'cat': 1}
        """
        from imgindex.storage.tags import count_tags

        return count_tags(self._store.catalogue)

    def import_csv(self, path: Path, *, id: str = "stem") -> ImportReport:
        """Join the columns of a CSV to the images by its first column: all of them, or none when it raises.

        id: what the first column holds: stem, name, or path (relative to the folder that holds the index). Text that is
        written as a number becomes one. An empty value removes a value. Ids that no image has are in the report.

        Raises UsageError for a file that is not such a table or images that have the same id, OSError, IndexLocked.

        >>> with open("years.csv", "w") as file:
        ...     _ = file.write("ImageID,year\\ncat,1969\\n")
        >>> index.import_csv("years.csv").images
        1
        """
        from imgindex.curation.metadata import import_csv

        return import_csv(self._store, path, id, wait=lambda: self._wait)

    # To look at, and for other programs.

    def gallery(
        self,
        found: Clustering | Duplicates | Sequence[Answer] | Sequence[Outlier],
        *,
        maps: Sequence[str] = ("pca",),
        images: int | None = 2000,
        relative_to: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> GalleryPage:
        """Return a page that shows what a method of this index returned: an HTML file, a contact sheet, or a preview.

        found: what `cluster`, `duplicates`, `answers` or `outliers` returned. maps: the maps on the page of a
        clustering: pca, pacmap, umap and tsne, see `map`, whose errors it raises. images: how many images the clusters
        on that page list, all clusters together; None for all. relative_to: the folder that paths below it are shown
        relative to; None for absolute paths. Links open the files wherever the page is written.

        Raises IndexDamaged.

        >>> index.gallery(index.cluster(k=3)).write_html("clusters.html")
        """
        from imgindex.gallery.builder import build

        folder = None if relative_to is None else absolute(relative_to)
        progress = on_progress or _ignore
        return build(self._store, found, maps=maps, images=images, relative_to=folder, on_progress=progress)

    def thumbnails(
        self,
        ids: Iterable[int] | None = None,
        *,
        side: int = 256,
        format: str = "webp",
        on_progress: OnProgress | None = None,
    ) -> Iterator[Thumbnail]:
        """Yield a thumbnail of each image, of all in the order of ids, or of the given ids.

        side: pixels of the longer side. format: webp or jpeg. The thumbnail of a file that is missing or cannot be
        read has no data, and the reason. Raises UsageError.

        >>> thumbnail = next(index.thumbnails(side=96))
        >>> max(thumbnail.width, thumbnail.height)
        96
        """
        from imgindex.decoding.thumbnails import KeptThumbnails, thumbnails
        from imgindex.storage.thumbnails import ThumbnailStore

        catalogue = self._store.catalogue
        paths = list(catalogue.image_paths(ids).values())
        hashes = {path: image.sha256 for path, image in catalogue.known(paths).items()}
        store = ThumbnailStore(self.path)
        made = thumbnails(paths, side=side, format=format, kept=KeptThumbnails(store, hashes), on_progress=on_progress)

        def each() -> Iterator[Thumbnail]:
            with closing(store):
                yield from made

        return each()

    def map(
        self, method: str = "pca", *, seed: int = 42, anew: bool = False, on_progress: OnProgress | None = None
    ) -> Map:
        """Return coordinates of all images on a plane, by pca, pacmap, umap or tsne; the same seed gives the same map.

        The index keeps the newest map by each method, where it can be written to. Images stay where they are on it: new
        and changed ones are placed among their nearest, removed ones vanish. It is laid out again with anew, or when
        more than a fifth of its images have changed. pacmap lays out 50,000 images, evenly taken, and places others
        among their nearest of these.

        Raises UsageError for another method, or for t-SNE of more than 20,000 images; ExtraMissing without the library
        of pacmap or umap; IndexDamaged.

        >>> index.map("pca").xy.shape == (len(index), 2)
        True
        """
        from imgindex.gallery.kept_maps import kept_map

        return kept_map(self._store, method, seed=seed, anew=anew, on_progress=on_progress or _ignore)

    def export(
        self,
        out: Path,
        *,
        format: str | None = None,
        overwrite: bool = False,
        where: str | None = None,
        map: str = "pca",
        thumbnails: int = 192,
        relative_to: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> int:
        """Write ids, paths and vectors to a file, and return the count.

        format: npz, npy, parquet, faiss or csv; None for that of the ending of `out`. npz: `ids` int64 (n,), `paths`
        str (n,), `vectors` float32 (n, dimension). npy: the vectors alone. faiss: an IndexIDMap2 of them. parquet: also
        clusters, tags, metadata, coordinates by `map` (pca, pacmap, umap, tsne or none) and JPEG thumbnails, whose
        longer side has so many pixels; 0 for none. The file appears when it is complete.

        overwrite: replace a file that imgindex did not write. where: an SQL condition on the images. relative_to: the
        folder that paths below it are relative to; None for absolute paths. Raises FileNotOurs (and changes nothing)
        when `out` exists and is not as imgindex wrote it, UsageError, IndexDamaged, ExtraMissing.

        >>> index.export("vectors.npz") == len(index)
        True
        """
        from imgindex.export.run import export_index

        return export_index(
            self._store,
            on_this_machine(out),
            format=format,
            overwrite=overwrite,
            where=where,
            map=map,
            thumbnails=thumbnails,
            relative_to=None if relative_to is None else absolute(relative_to),
            on_progress=on_progress,
        )

    # Maintenance.

    def status(self) -> dict[str, Any]:
        """Return counts, recipe, sizes on disk in bytes, roots and the last runs.

        >>> index.status()["recipe"]["name"]
        'vgg16-pool5'
        """
        from imgindex.search.lifecycle import provenance, target_recall
        from imgindex.search.smoothed import smoothing_status
        from imgindex.storage import precision

        store = self._store
        with store.catalogue.snapshot():
            return {
                "index": self.path,
                **store.catalogue.count(),
                "recipe": {**self.recipe.to_dict(), "digest": self.recipe.digest},
                "store": store.segments.dtype.name,
                "segments": len(store.catalogue.segments()),
                "bytes": store.bytes_on_disk(),
                "search": provenance(store),
                "smoothed": smoothing_status(store),
                "precision": [asdict(one) for one in precision.read(store.catalogue).values()],
                "target_recall": target_recall(store.catalogue),
                "roots": store.catalogue.ledger.roots(),
                "runs": store.catalogue.ledger.runs(RUNS),
            }

    def verify(self, *, full: bool = False, on_progress: OnProgress | None = None) -> VerifyReport:
        """Check the index against its catalogue, and with `full` every vector against its CRC32; changes nothing.

        >>> index.verify(full=True).ok
        True
        """
        from imgindex.storage.verify import check

        return check(self._store.path, full=full, on_progress=on_progress or _ignore)

    def compact(
        self,
        *,
        target_recall: float | None = None,
        search: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> CompactReport:
        """Free the space of vectors that belong to no image, and renew the search index; others may read meanwhile.

        target_recall: the share (0, 1] of true neighbours that the search index of a large collection has to find.
        search: milvus://HOST:PORT/COLLECTION to search with a Milvus server from now on, "local" to search here again.
        Raises IndexLocked, IndexDamaged, UsageError; SearchUnavailable, CollectionNotOurs or ExtraMissing where a
        server searches and cannot be asked.

        >>> index.compact().segments_after
        1
        """
        from imgindex.search.upkeep import compact

        return compact(
            self._store,
            target_recall=target_recall,
            search=search,
            wait=lambda: self._wait,
            on_progress=on_progress or _ignore,
        )

    @classmethod
    def repair(
        cls,
        path: Path,
        *,
        weights: str | None = None,
        engine: Engine | None = None,
        encoder: CustomEncoder | None = None,
        ray: str | None = None,
        wait: bool = False,
        on_progress: OnProgress | None = None,
    ) -> RepairReport:
        """Repair the index at `path`, which need not open: make lost vectors again, drop what cannot be made.

        A lost vector is made again from its image if that still has the same bytes; otherwise the image is dropped, and
        named in the report. weights: where the weights file is now. encoder: as in `open`. ray: as in `add`.

        Raises IndexNotFound, IndexLocked, FormatTooNew; IndexDamaged when the recipe itself is lost;
        WeightsUnavailable, with nothing dropped, when vectors must be made and cannot be.

        >>> ImageIndex.repair("photos.imgindex").mended
        ()
        """
        from imgindex.encoders.custom import adapted
        from imgindex.encoders.registry import make_encoder
        from imgindex.ingest.control import RunControl
        from imgindex.ingest.pipeline import IngestPipeline
        from imgindex.ingest.ray_pipeline import RayPipeline
        from imgindex.ingest.reembed import repair
        from imgindex.nodes.cluster import check_address

        if ray is not None:
            check_address(ray)
            if encoder is not None:
                raise UsageError(OWN_ENCODER, hint="leave out `ray` or `encoder`")
        chosen = engine or Engine()

        @contextmanager
        def make_pipeline(recorder: StoreRecorder, recipe: Recipe, settings: dict[str, str]) -> Iterator[Pipeline]:
            if ray is not None:
                yield RayPipeline(
                    recorder, ray, recipe=recipe, settings=settings, weights=weights, engine=chosen, hashes=False
                )
                return
            made = make_encoder(recipe, settings, weights, chosen) if encoder is None else adapted(encoder, recipe)
            with closing(DecoderPool(recipe)) as decoders:
                yield IngestPipeline(recorder, decoders, lambda: made, chosen.workers)

        return repair(
            on_this_machine(path),
            make_pipeline=make_pipeline,
            control=RunControl(on_progress or _ignore, wait=wait),
        )

    def _check_ray(self, ray: str) -> None:
        from imgindex.nodes.cluster import check_address

        check_address(ray)
        if self._own_encoder is not None:
            raise UsageError(OWN_ENCODER, hint="leave out `ray`")

    def _query_context(self) -> QueryContext:
        from imgindex.search.query import QueryContext

        return QueryContext(self._store, self._decoders, lambda: self.encoder)
