"""Groups of images that duplicate each other, each with its grade, and which image of each group to keep.

The grades: `same` has the same bytes; `copy` shows the same picture, which was verified on the pixels; `similar` has a
near vector, and nothing more is known. Near vectors and perceptual hashes only propose pairs; pixels decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from imgindex.curation.candidates import near_vectors, read_hashes
from imgindex.curation.copies import CopyFinder
from imgindex.curation.grouping import batches, group_copies
from imgindex.curation.keep_policy import Candidate, KeepPolicy
from imgindex.curation.neighbours import StoredVectors, first_with_same_content, first_with_same_vector
from imgindex.curation.rotations import turns
from imgindex.curation.thresholds import similar_distance
from imgindex.curation.verification import Verifier
from imgindex.decoding.pool import DecoderPool
from imgindex.errors import UsageError
from imgindex.recipe import Recipe
from imgindex.results import Duplicate, Duplicates, Group
from imgindex.search.filters import select
from imgindex.storage.store import Store
from imgindex.types import Failure, Ids, OnProgress

# How many images of a group stand for the one that is kept, for those that are not copies of it by themselves.
OTHERS = 3
# Images whose copies are searched for together, so that their pictures stay decoded meanwhile.
IMAGES_AT_ONCE = 64
ORDER = ("kept", "same", "copy", "similar")
# Neighbours of each image that may be similar.
NEIGHBOURS = 32


def duplicates(
    store: Store,
    recipe: Recipe,
    decoders: DecoderPool,
    *,
    exact: bool,
    similar: bool,
    distance: float | None,
    keep: str,
    prefer: Sequence[str],
    rotations: bool,
    flips: bool,
    where: str | None,
    on_progress: OnProgress,
    wait: Callable[[], bool],
) -> Duplicates:
    """Return the groups of images that duplicate each other, the largest first.

    decoders: a pool that computes hashes. The other parameters are those of `ImageIndex.duplicates`. Raises UsageError,
    IndexDamaged.
    """
    policy = KeepPolicy(keep, prefer, recipe, on_progress)
    if exact and (similar or rotations or flips):
        raise UsageError("exact compares bytes alone", hint="leave out similar, rotations and flips")
    within = similar_distance(recipe, distance, similar=similar)
    failures: list[Failure] = []
    with store.reading():
        contents = _Contents.of(*first_with_same_content(store, select(store, where), on_progress=on_progress))
        same = [[first] for first, ids in contents.members.items() if len(ids) > 1]
        if exact or len(contents.firsts) < 2:
            drafts = _Drafts(store, contents, policy).of(same, None)
            found = [_group(draft, {}) for draft in drafts]
            compared = 0
        else:
            hashes = read_hashes(store, decoders, contents.firsts, on_progress=on_progress, wait=wait)
            rows = StoredVectors(store.blocks(contents.firsts))
            with Verifier(store, decoders, on_progress=on_progress, wait=wait) as verifier:
                finder = CopyFinder(store, recipe, hashes, verifier, turns(rotations=rotations, flips=flips))
                edges = finder.candidates(contents.firsts, rows, on_progress)
                copies = _copies(edges, finder, verifier)
                grouped = {first for group in copies for first in group}
                groups = copies + [group for group in same if group[0] not in grouped]
                making = _Drafts(store, contents, policy)
                drafts = making.of(groups, finder)
            if within is not None:
                _add_similar(drafts, making, store, rows, within, on_progress)
            found = [_group(draft, _distances(draft, contents, rows)) for draft in drafts]
            failures += {failure.path: failure for failure in (*hashes.failures, *verifier.failures.values())}.values()
            compared = verifier.compared
    found.sort(key=lambda group: (-len(group.others), group.kept.id))
    grades = ("same",) if exact else ("same", "copy", "similar") if similar else ("same", "copy")
    return Duplicates(tuple(found), len(contents.first), grades, compared, tuple(failures))


@dataclass(frozen=True, slots=True)
class _Contents:
    """The images by their bytes: one image for each content (ascending), that of each id, and all ids of each."""

    firsts: Ids
    first: Mapping[int, int]
    members: Mapping[int, list[int]]

    @classmethod
    def of(cls, ids: Ids, firsts: Ids) -> _Contents:
        members: dict[int, list[int]] = {}
        for id, first in zip(ids.tolist(), firsts.tolist(), strict=True):
            members.setdefault(first, []).append(id)
        return cls(np.unique(firsts), dict(zip(ids.tolist(), firsts.tolist(), strict=True)), members)


@dataclass(slots=True)
class _Draft:
    """A group: its images, the one to keep first; the turns of those that are turned; and the ids of similar ones."""

    candidates: list[Candidate]
    turned: dict[int, str] = field(default_factory=dict)
    similar: set[int] = field(default_factory=set)

    @property
    def kept(self) -> Candidate:
        return self.candidates[0]


class _Drafts:
    """Makes drafts from groups of contents, in which every image is a copy of the one that is kept."""

    def __init__(self, store: Store, contents: _Contents, policy: KeepPolicy) -> None:
        self._store, self._policy = store, policy
        self.contents = contents

    def of(self, groups: Sequence[list[int]], finder: CopyFinder | None) -> list[_Draft]:
        """Return the drafts of groups of contents; finder: None where each group is of one content.

        Every image is compared with the one that is kept, or with another that shows as much. Images that are copies of
        the group's centre, but not of the one that is kept, make a group of their own.
        """
        members, first = self.contents.members, self.contents.first
        known = self._inspect([id for group in groups for one in group for id in members[one]])
        drafts: list[_Draft] = []
        queue = list(groups)
        while queue:
            ranked = self._policy.ranked([[known[id] for one in group for id in members[one]] for group in queue])
            kept = [first[candidates[0].image.id] for candidates in ranked]
            turned = _turned(kept, queue, finder) if finder is not None else {}
            following = []
            for of, group, candidates in zip(kept, queue, ranked, strict=True):
                turns_of = {one: turned.get((of, one)) for one in group} | {of: ""}
                inside = [one for one in candidates if turns_of[first[one.image.id]] is not None]
                if len(inside) > 1:
                    # The reason is one against these, without those that are outside.
                    (inside,) = self._policy.ranked([inside])
                    names = {one.image.id: turns_of[first[one.image.id]] or "" for one in inside}
                    drafts.append(_Draft(inside, {id: name for id, name in names.items() if name}))
                outside = [one for one in group if turns_of[one] is None]
                if sum(len(members[one]) for one in outside) > 1:
                    following.append(outside)
            queue = following
        return drafts

    def similar(self, firsts: Sequence[int]) -> list[Candidate]:
        """Return the images of some contents, the one to keep first."""
        ids = [id for one in firsts for id in self.contents.members[one]]
        return self._policy.ranked([list(self._inspect(ids).values())])[0]

    def _inspect(self, ids: Sequence[int]) -> dict[int, Candidate]:
        return {one.image.id: one for one in self._policy.inspect(self._store.catalogue.records(ids))}


def _copies(edges: Sequence[tuple[int, int]], finder: CopyFinder, verifier: Verifier) -> list[list[int]]:
    """Return the groups of copies by their centres."""
    rank, copies = _rank(edges), []
    left = len(rank)
    for batch in batches(edges, IMAGES_AT_ONCE):
        left -= len({id for edge in batch for id in edge})
        verifier.ahead = left
        copies += group_copies(batch, rank, lambda pairs: _decided(finder.verify(pairs)))
    if verifier.compared:
        verifier.report()  # the last batches may have had nothing new
    return sorted(copies)


def _decided(turned: Iterable[str | None]) -> list[bool]:
    return [name is not None for name in turned]


def _turned(kept: Sequence[int], groups: Sequence[list[int]], finder: CopyFinder) -> dict[tuple[int, int], str | None]:
    """Return for each kept content and each other one of its group how that is turned to be a copy, None for no copy.

    Compression, frames and text across add up: two copies of one original may differ too much from each other. So what
    is not a copy of the kept one is compared with a few others of the group that show as much as it does.
    """
    pairs = [(of, one) for of, group in zip(kept, groups, strict=True) for one in group if one != of]
    turned = dict(zip(pairs, finder.verify(pairs), strict=True))
    upright = [pair for pair in pairs if turned[pair] == ""]
    as_much: dict[int, list[int]] = {}
    for (of, one), enough in zip(upright, finder.show_as_much(upright), strict=True):
        if enough and len(as_much.setdefault(of, [])) < OTHERS:
            as_much[of].append(one)
    missing = [pair for pair in pairs if turned[pair] is None]
    through = [((of, one), (other, one)) for of, one in missing for other in as_much.get(of, [])]
    found = finder.verify([pair for _, pair in through])
    for (pair, _), name in zip(through, found, strict=True):
        if turned[pair] is None:
            turned[pair] = name
    return turned


def _rank(edges: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the order in which images become centres: those in the most pairs first."""
    count: dict[int, int] = {}
    for id in chain.from_iterable(edges):
        count[id] = count.get(id, 0) - 1
    return count


def _add_similar(
    drafts: list[_Draft],
    making: _Drafts,
    store: Store,
    rows: StoredVectors,
    within: float,
    on_progress: OnProgress,
) -> None:
    """Add to each draft the images near to the one that it keeps, and drafts of other images near to each other."""
    contents = making.contents
    near: dict[int, set[int]] = {}
    distinct = first_with_same_vector(store, rows, contents.firsts)
    pairs = [
        *zip(contents.firsts.tolist(), distinct.tolist(), strict=True),
        *((a, b) for a, b, _ in near_vectors(
            store, np.unique(distinct), within, n=NEIGHBOURS, on_progress=on_progress
        )),
    ]  # fmt: skip
    for a, b in pairs:
        if a != b:
            near.setdefault(a, set()).add(b)
            near.setdefault(b, set()).add(a)
    taken = {contents.first[one.image.id] for draft in drafts for one in draft.candidates}
    for draft in sorted(drafts, key=lambda draft: -len(draft.candidates)):
        others = sorted(near.get(contents.first[draft.kept.image.id], set()) - taken)
        if others:
            draft.candidates += making.similar(others)
            draft.similar |= {id for one in others for id in contents.members[one]}
            taken.update(others)
    for centre in sorted(near, key=lambda id: (-len(near[id]), id)):
        others = sorted(near[centre] - taken)
        if centre in taken or not others:
            continue
        candidates = making.similar([centre, *others])
        drafts.append(_Draft(candidates, similar={one.image.id for one in candidates[1:]}))
        taken.update((centre, *others))


def _distances(draft: _Draft, contents: _Contents, rows: StoredVectors) -> dict[int, float]:
    kept = contents.first[draft.kept.image.id]
    others = {id: contents.first[id] for id in (one.image.id for one in draft.candidates)}
    far = {id: one for id, one in others.items() if one != kept}
    if not far:
        return {}
    return dict(zip(far, map(float, rows.distances(kept, np.array(list(far.values())))), strict=True))


def _group(draft: _Draft, distances: Mapping[int, float]) -> Group:
    """Return the group of a draft, the others by their grade and distance."""
    images = [_duplicate(one, draft, distances) for one in draft.candidates]
    others = sorted(images[1:], key=lambda one: (ORDER.index(one.how), one.distance, one.id))
    return Group(images[0], tuple(others), draft.kept.why)


def _duplicate(one: Candidate, draft: _Draft, distances: Mapping[int, float]) -> Duplicate:
    image, kept = one.image, draft.kept
    how = "same" if image.sha256 == kept.image.sha256 else "similar" if image.id in draft.similar else "copy"
    return Duplicate(
        path=image.path,
        how="kept" if one is kept else how,
        same_file=one is not kept and one.file is not None and one.file == kept.file,
        distance=distances.get(image.id, 0.0),
        turned=draft.turned.get(image.id, ""),
        width=image.width,
        height=image.height,
        size=image.size,
        mtime_ns=image.mtime_ns,
        sharpness=one.sharpness,
        problem=one.problem,
        protected=one.protected,
        why="" if how == "similar" and one is not kept else one.why,
        sha256=image.sha256,
        frees=one.frees,
        id=image.id,
    )
