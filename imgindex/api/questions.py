"""What an index can be asked about images: which are nearest to one, to several, or to a mix of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from dataclasses import replace

from imgindex.embedding.sandbox import Decoders
from imgindex.errors import UnreadableImage
from imgindex.querying import Limits, Mix, Sources, answer
from imgindex.storage.paths import shown, shown_records
from imgindex.storage.store import Store
from imgindex.types import Answer, Embedder, Match, Path


class Questions:
    """The searches of an ImageIndex.

    Each takes `where`: an SQL condition on the images that may be answers, as docs/questions.md says.
    """

    _store: Store
    _decoders: Decoders
    embedder: Embedder

    def similar(
        self,
        image: Path | Mix,
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
    ) -> list[Match]:
        """Return the images nearest to one, or to a mix, nearest first; n of them, if so many fulfil the conditions.

        An indexed image is answered from its stored vector. max_distance: Euclidean, none farther is returned.
        Raises UnreadableImage when the image cannot be read, and as `answers`.
        """
        asked = self.answers([image], n=n, max_distance=max_distance, include_self=include_self, where=where)
        failure = asked[0].failure
        if failure is not None:
            name = shown(failure.path, here=os.getcwd())
            raise UnreadableImage(f"cannot read {name}: {failure.reason}", stage=failure.stage)
        return asked[0].matches

    def answers(
        self,
        images: Iterable[Path | Mix],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
    ) -> list[Answer]:
        """Return what `similar` returns, for many images at once; a failure takes the place of matches.

        Raises UsageError for n below 1, a max_distance that is no distance, or a condition that is none.
        """
        return list(self.each_answer(images, n=n, max_distance=max_distance, include_self=include_self, where=where))

    def each_answer(
        self,
        images: Iterable[Path | Mix],
        *,
        n: int = 10,
        max_distance: float | None = None,
        include_self: bool = False,
        where: str | None = None,
    ) -> Generator[Answer, None, None]:
        """Yield what `answers` returns, one after the other, with some hundred of them in memory at once.

        All are answered from the state that the index has when the first one is asked for.
        """
        limits = Limits(n, max_distance, include_self, where)
        sources = Sources(self._store, self._decoders, lambda: self.embedder)
        asked = (image if isinstance(image, Mix) else os.fspath(image) for image in images)
        with contextlib.closing(answer(sources, asked, limits)) as found:
            for one in found:
                yield replace(one, matches=list(shown_records(one.matches)))
