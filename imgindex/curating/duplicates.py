"""Groups of images that duplicate each other, by their bytes and by their vectors, and which of each to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from imgindex.analysis.grouping import around_centres
from imgindex.answers.curation import Duplicate, Duplicates, Group
from imgindex.curating import keeping
from imgindex.curating.keeping import Candidate
from imgindex.curating.neighbours import Ids, StoredRows, by_content, by_vector, each_nearest
from imgindex.curating.thresholds import threshold
from imgindex.curating.turning import Means, turned_images, turns
from imgindex.embedding.on_demand import Turn
from imgindex.embedding.recipe import Recipe
from imgindex.searching import open_search
from imgindex.selecting import select
from imgindex.storage.store import Store
from imgindex.types import Failure, Neighbours, Progress, VectorSearch

# Neighbours of each image that make pairs. Of one that has more of them within the distance, the others of its part are
# compared with it.
NEIGHBOURS = 32
# Turned pictures of so many images are searched for at once.
TURNED = 128


@dataclass(frozen=True, slots=True)
class Wish:
    """Among which images; what is a duplicate: by bytes alone, or within a distance, also turned; which one is kept."""

    distance: float | None = None
    exact: bool = False
    keep: str = "largest"
    rotations: bool = False
    flips: bool = False
    where: str | None = None


def duplicates(store: Store, recipe: Recipe, wish: Wish, means: Means) -> Duplicates:
    """Return the groups of images that duplicate each other, the largest first.

    Raises UsageError for a wish that cannot be, as for a distance where none is calibrated, and IndexDamaged.
    """
    keeping.check_keep(wish.keep)
    distance = None if wish.exact else threshold(recipe, wish.distance)
    ways = {} if wish.exact else turns(rotations=wish.rotations, flips=wish.flips)
    failures: list[Failure] = []
    with store.reading():
        ids, contents = by_content(store, select(store, wish.where))
        rows = StoredRows(store.blocks(np.unique(contents)) if distance is not None else [])
        groups = contents
        if distance is not None and len(ids):
            pairs = _Pairs(store, rows, np.unique(contents), distance)
            if ways:
                pairs.find_turned(ways, means, failures)
            pairs.find(means)
            groups = pairs.groups()[np.searchsorted(pairs.contents, contents)]
        drafts = _drafts(store, recipe, _parts(ids, groups), wish.keep)
        measured = _Measured(rows, dict(zip(ids.tolist(), contents.tolist(), strict=True)), distance)
        if ways:
            measured.turn(store, drafts, ways, means)
        found = [measured.group(draft, wish.keep) for draft in drafts]
    found.sort(key=lambda group: (-len(group.others), group.kept.id))
    return Duplicates(tuple(found), len(ids), distance, tuple(failures))


class _Pairs:
    """Pairs of near images, of all that have the same vector only the first one; and the groups that they make.

    contents: one image for each content, rising; a thousand copies of one would only be near to each other.
    """

    def __init__(self, store: Store, rows: StoredRows, contents: Ids, distance: float) -> None:
        self.contents = contents
        self._store, self._rows, self._distance = store, rows, distance
        self._first = by_vector(store, rows, contents)
        self._distinct = np.unique(self._first)
        self._crowded = np.zeros(len(self._distinct), dtype=np.bool_)
        self._pairs: list[tuple[Ids, Ids]] = []

    def find(self, means: Means) -> None:
        """Find the nearest others of each image that are near enough, block by block."""
        done = 0
        for some, near in each_nearest(self._store, NEIGHBOURS, self._distinct):
            within = self._add(some, near)
            self._crowded[np.searchsorted(self._distinct, some)] = within[:, -1]
            done += len(some)
            means.on_progress(Progress("compare", done, len(self._distinct)))

    def find_turned(self, ways: Mapping[str, Turn], means: Means, failures: list[Failure]) -> None:
        """Do the same for each image turned in all these ways, which is to read and embed it again."""
        turned, done = turned_images(self._store, self._distinct.tolist(), ways, means, failures), 0
        search: VectorSearch | None = None
        while some := list(islice(turned, TURNED)):
            # Not before: torch must be loaded ahead of FAISS.
            search = search or open_search(self._store, self._distinct)
            near = search.search(np.concatenate([vectors for _, vectors in some]), NEIGHBOURS)
            self._add(np.repeat(np.array([id for id, _ in some]), len(ways)), near)
            done += len(some)
            means.on_progress(Progress("turn", done, len(self._distinct)))

    def _add(self, ids: Ids, near: Neighbours) -> npt.NDArray[np.bool_]:
        within: npt.NDArray[np.bool_] = (near.ids >= 0) & (near.distances <= self._distance)
        a, b = np.repeat(ids, within.sum(axis=1)), near.ids[within]
        # A symmetric picture is its own mirror image.
        self._pairs.append((a[a != b], b[a != b]))
        return within

    def groups(self) -> Ids:
        """Return for each content, in their order, the image that its group is around: itself where it is alone."""
        a, b = (np.searchsorted(self._distinct, np.concatenate(ids)) for ids in zip(*self._pairs, strict=True))

        def is_near(row: int, others: Ids) -> npt.NDArray[np.bool_]:
            near: npt.NDArray[np.bool_] = (
                self._rows.distances(int(self._distinct[row]), self._distinct[others]) <= self._distance
            )
            return near

        centres = around_centres(len(self._distinct), (a, b), self._crowded, is_near)
        found: Ids = self._distinct[centres[np.searchsorted(self._distinct, self._first)]]
        return found


def _parts(ids: Ids, groups: Ids) -> list[Ids]:
    """Return the ids of each group of more than one image."""
    order = np.argsort(groups, kind="stable")
    parts = np.split(ids[order], np.flatnonzero(np.diff(groups[order])) + 1)
    return [part for part in parts if len(part) > 1]


def _drafts(store: Store, recipe: Recipe, parts: Sequence[Ids], keep: str) -> list[list[Candidate]]:
    """Return the images of each group, the one to keep first."""
    candidates = [keeping.look(image) for part in parts for image in store.catalogue.records(part.tolist())]
    if keep == "sharpest":
        candidates = list(keeping.with_sharpness(candidates, recipe))
    each = iter(candidates)
    return [keeping.in_order(islice(each, len(part)), keep) for part in parts]


class _Measured:
    """Distances of images to the ones that are kept; `contents` gives for each id the image whose vector is read."""

    def __init__(self, rows: StoredRows, contents: Mapping[int, int], distance: float | None) -> None:
        self._rows, self._contents, self._distance = rows, contents, distance
        self._turned: dict[int, tuple[float, str]] = {}

    def turn(self, store: Store, drafts: Sequence[list[Candidate]], ways: Mapping[str, Turn], means: Means) -> None:
        """Measure anew, turned, what is far from the one that is kept."""
        kept = {
            one.image.id: draft[0].image.id
            for draft in drafts
            for one, distance in zip(draft, self._apart(draft), strict=True)
            if self._distance is not None and distance > self._distance
        }
        names = list(ways)
        for id, vectors in turned_images(store, list(kept), ways, means, []):
            of_kept = self._rows.take(np.array([self._contents[kept[id]]]))
            distances = np.linalg.norm(vectors - of_kept, axis=1)
            best = int(distances.argmin())
            self._turned[id] = float(distances[best]), names[best]

    def group(self, draft: list[Candidate], keep: str) -> Group:
        """Return the group of a draft, the others by their distance."""
        kept = draft[0]
        images = [self._duplicate(one, kept, distance) for one, distance in zip(draft, self._apart(draft), strict=True)]
        others = sorted(images[1:], key=lambda one: (one.how == "near", one.distance, one.id))
        return Group(images[0], tuple(others), keeping.why(draft, keep))

    def _apart(self, draft: list[Candidate]) -> list[float]:
        contents = np.array([self._contents[one.image.id] for one in draft])
        distances = np.zeros(len(draft))
        other = contents != contents[0]
        if other.any():
            distances[other] = self._rows.distances(int(contents[0]), contents[other])
        return [float(distance) for distance in distances]

    def _duplicate(self, one: Candidate, kept: Candidate, distance: float) -> Duplicate:
        image = one.image
        turned = ""
        if image.id in self._turned and self._turned[image.id][0] < distance:
            distance, turned = self._turned[image.id]
        how = "exact" if image.sha256 == kept.image.sha256 else "near"
        if one.file is not None and one.file == kept.file:
            how = "same file"
        return Duplicate(
            path=image.path,
            how="kept" if one is kept else how,
            distance=distance,
            turned=turned,
            width=image.width,
            height=image.height,
            size=image.size,
            mtime_ns=image.mtime_ns,
            sharpness=one.sharpness,
            problem=one.problem,
            id=image.id,
        )
