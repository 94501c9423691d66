"""ImageIndex, the whole of imgindex for a Python program: joins the parts and decides nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from imgindex.adding.survey import Scope, Watch, absolute, check_roots
from imgindex.api.clusterings import Clusterings
from imgindex.api.contents import Contents
from imgindex.api.curation import Curation
from imgindex.api.describing import Describing
from imgindex.api.pictures import Pictures
from imgindex.api.questions import Questions
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.storage.paths import shown_records
from imgindex.storage.store import Store
from imgindex.types import (
    AddReport,
    CompactReport,
    Embedder,
    Engine,
    Image,
    OnProgress,
    Path,
    RepairReport,
)


class ImageIndex(
    Questions, Clusterings, Curation, Pictures, Describing, Contents, AbstractContextManager["ImageIndex"]
):
    """An index of images: vectors of one recipe, and what is known of the files that they were made of.

    Paths that it returns open from the current folder: relative below it, absolute elsewhere. Use it in one thread, in
    a `with` block or with `close()`. With `wait` set, whoever writes waits for another process that is writing.
    """

    def __init__(self, store: Store, *, engine: Engine, weights: str | None = None) -> None:
        super().__init__(store)
        self.engine = engine
        self.wait = False
        self._weights = weights
        self._embedder: Embedder | None = None
        self._decoders = Decoders(self.recipe)

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
        from imgindex.creating import create

        made = create(os.fspath(path), recipe, size=size, weights=weights, store=store)
        return cls(made, engine=engine or Engine())

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
        """Let go of the files, and of the processes that decode."""
        self._decoders.close()
        self._store.close()

    def __exit__(self, *raised: object) -> None:
        self.close()

    def require(self, *, recipe: str = "auto", size: int | None = None, store: str | None = None) -> None:
        """Raise RecipeMismatch unless this index has that recipe, side in pixels and storage."""
        from imgindex.creating import require

        require(self._store, self.recipe, recipe=recipe, size=size, store=store)

    @property
    def embedder(self) -> Embedder:
        """What turns pictures into vectors here; made on first use, and may be set to another one."""
        if self._embedder is None:
            from imgindex.embedding.choice import make_embedder

            self._embedder = make_embedder(self.recipe, self._store.settings, self._weights, self.engine)
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

        scope = Scope(check_roots(paths), tuple(exclude), retry_failed)
        watch = Watch(on_progress or (lambda progress: None), stop or (lambda: False), self.wait)
        if dry_run:
            report = preview(self._store, scope, watch)
        else:
            report = add(
                self._store,
                scope,
                decoders=self._decoders,
                engine=self.engine,
                make_embedder=lambda: self.embedder,
                watch=watch,
            )
        return replace(report, failures=tuple(shown_records(report.failures)))

    def remove(self, paths: Iterable[Path]) -> list[Image]:
        """Take images out, those below a folder too, and forget their failures; the files stay where they are.

        Returns the images taken out. Raises IndexLocked, or PathNotFound (and changes nothing) when the index has
        nothing at a path.
        """
        with self._store.writing(wait=lambda: self.wait) as writer:
            return list(shown_records(writer.remove([absolute(path) for path in paths])))

    def compact(self, *, target_recall: float | None = None) -> CompactReport:
        """Free the room of vectors of no image, and renew the search index of a large collection; others may read.

        target_recall: share (0, 1] of true neighbours that it is to find. Raises IndexLocked, IndexDamaged, UsageError.
        """
        from imgindex.searching import compact

        return compact(self._store, target_recall=target_recall, wait=lambda: self.wait)

    @classmethod
    def repair(
        cls,
        path: Path,
        *,
        weights: str | None = None,
        engine: Engine | None = None,
        embedder: Embedder | None = None,
        wait: bool = False,
        on_progress: OnProgress | None = None,
    ) -> RepairReport:
        """Mend whatever is damaged in the index at `path`, which need not open: make again what can be, drop the rest.

        A lost vector is made again from its image where that has the same bytes still; otherwise the image is dropped,
        and named in the report. weights: where that file is now; embedder: another one than the recipe's own.

        Raises IndexNotFound, IndexLocked, FormatTooNew; IndexDamaged when nobody can tell what the vectors are;
        WeightsUnavailable, with nothing dropped, when vectors must be made and cannot be.
        """
        from imgindex.adding.repair import repair
        from imgindex.adding.survey import Watch
        from imgindex.embedding.choice import make_embedder

        engine, watch = engine or Engine(), Watch(on_progress or (lambda progress: None), wait=wait)
        report = repair(
            os.fspath(path),
            make_embedder=lambda recipe, settings: embedder or make_embedder(recipe, settings, weights, engine),
            workers=engine.workers,
            watch=watch,
        )
        return replace(report, dropped=tuple(shown_records(report.dropped)))
