"""Groups of images that duplicate each other, by their bytes and their vectors, and which image of each to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from imgindex.curation import keep_policy
from imgindex.curation.grouping import groups_around_centres
from imgindex.curation.keep_policy import Candidate
from imgindex.curation.neighbours import (
    StoredVectors,
    each_nearest,
    first_with_same_content,
    first_with_same_vector,
)
from imgindex.curation.rotations import EmbeddingContext, embed_transformed, transforms_of
from imgindex.curation.thresholds import threshold
from imgindex.encoders.encode_files import Transform
from imgindex.recipe import Recipe
from imgindex.results import Duplicate, Duplicates, Group
from imgindex.search.filters import select
from imgindex.search.lifecycle import load_search
from imgindex.storage.store import Store
from imgindex.types import Failure, Ids, Neighbours, Progress, VectorSearch

# Neighbours of each image that make pairs. An image with more neighbours within the distance is compared with its whole
# component (see grouping.py).
NEIGHBOURS = 32
# Images whose turned pictures are searched for at once.
TURNED = 128


def duplicates(
    store: Store,
    recipe: Recipe,
    context: EmbeddingContext,
    *,
    distance: float | None,
    exact: bool,
    keep: str,
    rotations: bool,
    flips: bool,
    where: str | None,
) -> Duplicates:
    """Return the groups of images that duplicate each other, the largest first.

    The parameters are those of `ImageIndex.duplicates`. Raises UsageError, IndexDamaged.
    """
    keep_policy.check_policy(keep)
    distance = None if exact else threshold(recipe, distance)
    transforms = {} if exact else transforms_of(rotations=rotations, flips=flips)
    failures: list[Failure] = []
    with store.reading():
        ids, contents = first_with_same_content(store, select(store, where))
        rows = StoredVectors(store.blocks(np.unique(contents)) if distance is not None else [])
        groups = contents
        if distance is not None and len(ids):
            pairs = _Pairs(store, rows, np.unique(contents), distance)
            if transforms:
                pairs.find_transformed(transforms, context, failures)
            pairs.find_near(context)
            groups = pairs.groups()[np.searchsorted(pairs.contents, contents)]
        drafts = _drafts(store, recipe, _split(ids, groups), keep)
        measured = _Measured(rows, dict(zip(ids.tolist(), contents.tolist(), strict=True)), distance)
        if transforms:
            measured.measure_transformed(store, drafts, transforms, context)
        found = [measured.group(draft, keep) for draft in drafts]
    found.sort(key=lambda group: (-len(group.others), group.kept.id))
    return Duplicates(tuple(found), len(ids), distance, tuple(failures))


class _Pairs:
    """Pairs of near images, and the groups that they make.

    Of images with the same vector, only the first one takes part. contents: one image for each content, ascending,
    because a thousand copies would be near to each other only.
    """

    def __init__(self, store: Store, rows: StoredVectors, contents: Ids, distance: float) -> None:
        self.contents = contents
        self._store, self._rows, self._distance = store, rows, distance
        self._first = first_with_same_vector(store, rows, contents)
        self._distinct = np.unique(self._first)
        self._crowded = np.zeros(len(self._distinct), dtype=np.bool_)
        self._pairs: list[tuple[Ids, Ids]] = []

    def find_near(self, context: EmbeddingContext) -> None:
        """Find the pairs of images as they are, block by block."""
        done = 0
        for ids, near in each_nearest(self._store, NEIGHBOURS, self._distinct):
            within = self._add(ids, near)
            self._crowded[np.searchsorted(self._distinct, ids)] = within[:, -1]
            done += len(ids)
            context.on_progress(Progress("compare", done, len(self._distinct)))

    def find_transformed(
        self, transforms: Mapping[str, Transform], context: EmbeddingContext, failures: list[Failure]
    ) -> None:
        """Find the pairs of transformed images with others; every image is read and embedded again."""
        embedded, done = embed_transformed(self._store, self._distinct.tolist(), transforms, context, failures), 0
        search: VectorSearch | None = None
        while batch := list(islice(embedded, TURNED)):
            # Opened after the first image was embedded: torch must be loaded before FAISS.
            search = search or load_search(self._store, self._distinct)
            near = search.search(np.concatenate([vectors for _, vectors in batch]), NEIGHBOURS)
            self._add(np.repeat(np.array([id for id, _ in batch]), len(transforms)), near)
            done += len(batch)
            context.on_progress(Progress("turn", done, len(self._distinct)))

    def _add(self, ids: Ids, near: Neighbours) -> npt.NDArray[np.bool_]:
        within: npt.NDArray[np.bool_] = (near.ids >= 0) & (near.distances <= self._distance)
        a, b = np.repeat(ids, within.sum(axis=1)), near.ids[within]
        # A symmetric picture is its own mirror image.
        self._pairs.append((a[a != b], b[a != b]))
        return within

    def groups(self) -> Ids:
        """Return for each of `contents` the image at the centre of its group: itself for an image on its own."""
        a, b = (np.searchsorted(self._distinct, np.concatenate(ids)) for ids in zip(*self._pairs, strict=True))

        def is_near(row: int, others: Ids) -> npt.NDArray[np.bool_]:
            near: npt.NDArray[np.bool_] = (
                self._rows.distances(int(self._distinct[row]), self._distinct[others]) <= self._distance
            )
            return near

        centres = groups_around_centres(len(self._distinct), (a, b), self._crowded, is_near)
        found: Ids = self._distinct[centres[np.searchsorted(self._distinct, self._first)]]
        return found


def _split(ids: Ids, groups: Ids) -> list[Ids]:
    """Return the ids of each group of more than one image; groups: the centre of each id's group."""
    order = np.argsort(groups, kind="stable")
    split = np.split(ids[order], np.flatnonzero(np.diff(groups[order])) + 1)
    return [group for group in split if len(group) > 1]


def _drafts(store: Store, recipe: Recipe, groups: Sequence[Ids], keep: str) -> list[list[Candidate]]:
    """Return the images of each group, the one to keep first."""
    candidates = [keep_policy.inspect(image) for group in groups for image in store.catalogue.records(group.tolist())]
    if keep == "sharpest":
        candidates = list(keep_policy.with_sharpness(candidates, recipe))
    each = iter(candidates)
    return [keep_policy.ranked(islice(each, len(group)), keep) for group in groups]


class _Measured:
    """Distances of images to the ones that are kept; contents: for each id, the image whose vector is read."""

    def __init__(self, rows: StoredVectors, contents: Mapping[int, int], distance: float | None) -> None:
        self._rows, self._contents, self._distance = rows, contents, distance
        self._transformed: dict[int, tuple[float, str]] = {}

    def measure_transformed(
        self,
        store: Store,
        drafts: Sequence[list[Candidate]],
        transforms: Mapping[str, Transform],
        context: EmbeddingContext,
    ) -> None:
        """Measure again, transformed, the images that are far from the one that is kept."""
        kept = {
            one.image.id: draft[0].image.id
            for draft in drafts
            for one, distance in zip(draft, self._distances(draft), strict=True)
            if self._distance is not None and distance > self._distance
        }
        names = list(transforms)
        for id, vectors in embed_transformed(store, list(kept), transforms, context, []):
            of_kept = self._rows.take(np.array([self._contents[kept[id]]]))
            distances = np.linalg.norm(vectors - of_kept, axis=1)
            best = int(distances.argmin())
            self._transformed[id] = float(distances[best]), names[best]

    def group(self, draft: list[Candidate], keep: str) -> Group:
        """Return the group of a draft, the others by their distance."""
        kept = draft[0]
        images = [
            self._duplicate(one, kept, distance) for one, distance in zip(draft, self._distances(draft), strict=True)
        ]
        others = sorted(images[1:], key=lambda one: (one.how == "near", one.distance, one.id))
        return Group(images[0], tuple(others), keep_policy.explain(draft, keep))

    def _distances(self, draft: list[Candidate]) -> list[float]:
        contents = np.array([self._contents[one.image.id] for one in draft])
        distances = np.zeros(len(draft))
        other = contents != contents[0]
        if other.any():
            distances[other] = self._rows.distances(int(contents[0]), contents[other])
        return [float(distance) for distance in distances]

    def _duplicate(self, one: Candidate, kept: Candidate, distance: float) -> Duplicate:
        image = one.image
        turned = ""
        if image.id in self._transformed and self._transformed[image.id][0] < distance:
            distance, turned = self._transformed[image.id]
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
