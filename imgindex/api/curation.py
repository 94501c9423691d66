"""What an index tells of its images to somebody who puts a collection in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from imgindex.adding.survey import absolute, check_roots
from imgindex.embedding.recipe import Recipe
from imgindex.embedding.sandbox import Decoders
from imgindex.storage.paths import shown, shown_records
from imgindex.storage.store import Store
from imgindex.types import Embedder, OnProgress, Outlier, Path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from imgindex.answers.curation import Checked, Duplicates, Leak
    from imgindex.curating.turning import Means


class DuplicatesWish(TypedDict, total=False):
    """What `duplicates` may be asked."""

    distance: float | None
    exact: bool
    keep: str
    rotations: bool
    flips: bool
    where: str | None


class Curation:
    """Duplicates and outliers of an ImageIndex, and what it holds already of other files, or of another part of it."""

    recipe: Recipe
    embedder: Embedder
    _store: Store
    _decoders: Decoders

    def duplicates(self, *, on_progress: OnProgress | None = None, **wish: Unpack[DuplicatesWish]) -> Duplicates:
        """Return groups of images that duplicate each other, and which one of each to keep; changes nothing.

        distance: Euclidean, else as calibrated for the recipe; each image of a group is so near to the group's centre,
        or has the same bytes as one that is. exact: by bytes alone. keep: largest, sharpest or oldest. rotations,
        flips: also what was turned by 90°, 180° or 270° or mirrored, for which every image is embedded again. where:
        an SQL condition on the images that are looked at, see docs/questions.md.

        Raises UsageError for a distance that is none or, where none is calibrated, is not given, IndexDamaged.
        """
        from imgindex.curating.duplicates import Wish, duplicates

        found = duplicates(self._store, self.recipe, Wish(**wish), self._means(on_progress))
        show = _shower()
        groups = tuple(
            replace(
                group,
                kept=replace(group.kept, path=show(group.kept.path)),
                others=tuple(replace(one, path=show(one.path)) for one in group.others),
            )
            for group in found.groups
        )
        return replace(found, groups=groups, failures=tuple(shown_records(found.failures)))

    def outliers(self, *, n: int = 20) -> list[Outlier]:
        """Return the n images that are least like any other, the least alike first, each with what is odd about it.

        Raises UsageError for n below 1, IndexDamaged.
        """
        from imgindex.curating.outliers import outliers

        show = _shower()
        found = outliers(self._store, self.recipe, n, self._decoders)
        return [replace(one, path=show(one.path), nearest=show(one.nearest)) for one in found]

    def check(
        self,
        paths: Iterable[Path],
        *,
        distance: float | None = None,
        rotations: bool = False,
        flips: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Checked]:
        """Return for each file, or file in a folder, whether it is new to the index, or the same as or near an image.

        Nothing is added. distance: Euclidean, up to which it is near, else as calibrated for the recipe. rotations,
        flips: also when it is turned or mirrored. What cannot be read is among the answers, as failed.

        Raises PathNotFound when a path is missing or unreadable, UsageError as `duplicates`, IndexDamaged.
        """
        from imgindex.curating.checking import check
        from imgindex.curating.thresholds import threshold
        from imgindex.curating.turning import turns

        near, ways = threshold(self.recipe, distance), turns(rotations=rotations, flips=flips)
        show = _shower()
        return [
            replace(one, path=show(one.path), match=one.match and show(one.match))
            for one in check(self._store, check_roots(paths), near, ways, self._means(on_progress))
        ]

    def leak(self, a: Path, b: Path, *, distance: float | None = None, n: int = 10) -> list[Leak]:
        """Return pairs of an image below the folder `a` and one below `b` that are the same or near, nearest first.

        distance: Euclidean, up to which a pair is near, else as calibrated for the recipe. n: images of `b` for each
        of `a`, the nearest. An image below both is no pair with itself.

        Raises PathNotFound where the index has no image below one of them, UsageError as `duplicates`, IndexDamaged.
        """
        from imgindex.curating.leaks import leak
        from imgindex.curating.thresholds import threshold

        show = _shower()
        found = leak(self._store, absolute(a), absolute(b), threshold(self.recipe, distance), n)
        return [replace(one, a=show(one.a), b=show(one.b)) for one in found]

    def _means(self, on_progress: OnProgress | None) -> Means:
        from imgindex.curating.turning import Means

        return Means(self._decoders, lambda: self.embedder, on_progress or (lambda progress: None))


def _shower() -> Callable[[str], str]:
    here = os.getcwd()
    return lambda path: shown(path, here=here)
