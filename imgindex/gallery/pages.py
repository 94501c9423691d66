"""Pages for the results of searches, outliers and duplicates."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from imgindex.gallery.map import make_scale
from imgindex.gallery.model import (
    DuplicatesPage,
    ImageCard,
    MatchesPage,
    OutliersPage,
    OutlierView,
    PageGroup,
    QueryView,
)
from imgindex.gallery.phrases import count
from imgindex.results import Answer, Duplicate, Duplicates, Outlier
from imgindex.search.smoothing import NEIGHBOURS
from imgindex.sources.registry import exists
from imgindex.storage.paths import absolute, as_written, display_path
from imgindex.storage.store import Store

# The kinds of duplicates as a reader sees them.
KINDS = {"same": "the same bytes", "copy": "a copy, verified", "similar": "similar, not verified: not disposable"}
# From a path as a result has it to the path as a reader sees it.
Display = Callable[[str], str]


def displayed_from(relative_to: str | None) -> Display:
    """Return a function that makes paths relative to a folder, where they are below it; None for absolute paths."""
    folder = None if relative_to is None else absolute(relative_to)
    return lambda path: display_path(as_written(path), folder)


def matches_page(store: Store, answers: Sequence[Answer], display: Display) -> MatchesPage:
    """Return the page of some answers; a distance comes with the share of pairs of the index that are farther apart.

    Raises IndexDamaged.
    """
    reranked = any(answer.reranked for answer in answers)
    scale = make_scale(store, smooth=reranked)
    queries = [
        QueryView(
            _query(answer),
            [
                ImageCard(
                    as_written(match.path),
                    match.id,
                    match.distance,
                    scale.share_farther(match.distance),
                    caption=f"{match.rank}  {match.distance:.3f}  {os.path.basename(match.path)}",
                    name=display(match.path),
                )
                for match in answer.matches
            ],
            failure=answer.failure.reason if answer.failure else "",
        )
        for answer in answers
    ]
    of = os.path.basename(answers[0].query) if len(answers) == 1 else count(len(answers), "image")
    facts = [*_facts(store), *([("vectors", f"each averaged with its {NEIGHBOURS} nearest")] if reranked else [])]
    return MatchesPage(f"Images similar to {of}", facts, queries)


def _query(answer: Answer) -> ImageCard:
    path = absolute(answer.query) if answer.failure is None else answer.failure.path
    is_mix = answer.failure is None and (" + " in answer.query or " - " in answer.query) and not exists(path)
    return ImageCard("" if is_mix else path, caption="query", name=answer.query)


def outliers_page(store: Store, outliers: Sequence[Outlier], display: Display) -> OutliersPage:
    """Return the page of some outliers, each beside the image nearest to it. Raises IndexDamaged."""
    scale = make_scale(store)
    views = [
        OutlierView(
            ImageCard(
                as_written(one.path),
                one.id,
                note=one.reason,
                caption=f"{one.rank}  {one.times:.1f} × as far  {os.path.basename(one.path)}",
                name=display(one.path),
            ),
            ImageCard(
                as_written(one.nearest),
                distance=one.distance,
                farther=scale.share_farther(one.distance),
                name=display(one.nearest),
            ),
            one.times,
        )
        for one in outliers
    ]
    title = f"The {count(len(views), 'image')} least like any other" if views else "No outliers"
    return OutliersPage(title, _facts(store), views)


def duplicates_page(store: Store, found: Duplicates, display: Display) -> DuplicatesPage:
    """Return the page of groups of duplicates: the image to keep, why, and the others. Raises IndexDamaged."""
    scale = make_scale(store)

    def other(one: Duplicate) -> ImageCard:
        same_file = "another path of the same file" if one.same_file else ""
        note = ", ".join(filter(None, (KINDS[one.how], one.turned, same_file, one.problem)))
        farther = scale.share_farther(one.distance)
        return ImageCard(as_written(one.path), one.id, one.distance, farther, note, name=display(one.path))

    groups = [
        PageGroup(
            ImageCard(
                as_written(group.kept.path), group.kept.id, note=group.kept.problem, name=display(group.kept.path)
            ),
            group.why,
            [other(one) for one in group.others],
        )
        for group in found.groups
    ]
    facts = [*_facts(store), ("grades", ", ".join(found.grades))]
    return DuplicatesPage(f"{count(len(groups), 'group')} of duplicates", facts, groups)


def _facts(store: Store) -> list[tuple[str, str]]:
    return [("images", f"{store.catalogue.count()['images']:,}"), ("index", store.path)]
