"""Pages for the results of searches, outliers and duplicates."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from imgindex.gallery.map import make_scale
from imgindex.gallery.model import (
    DuplicatesPage,
    DuplicateView,
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

# Up to so many times the median distance to the nearest image, none of the outliers is far from the others.
NEAR = 1.5
# From a path as a result has it to the path as a reader sees it.
Display = Callable[[str], str]


def displayed_from(relative_to: str | None) -> Display:
    """Return a function that makes paths relative to a folder, where they are below it; None for absolute paths."""
    folder = None if relative_to is None else absolute(relative_to)
    return lambda path: display_path(as_written(path), folder)


def matches_page(store: Store, answers: Sequence[Answer], display: Display) -> MatchesPage:
    """Return the page of some answers; its legend has the typical distance of the index. Raises IndexDamaged."""
    reranked = any(answer.reranked for answer in answers)
    typical = make_scale(store, smooth=reranked).typical
    queries = [
        QueryView(
            _query(answer),
            [
                ImageCard(
                    as_written(match.path),
                    match.id,
                    match.distance,
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
    legend = "Below each match are its rank and its distance to the query: the smaller, the more similar."
    if typical is not None:
        legend += f" Two images of this index are typically {typical:.2f} apart."
    empty = "" if queries else "No image was compared"
    return MatchesPage(f"Images similar to {of}", facts, queries, _among(store), legend, empty)


def _query(answer: Answer) -> ImageCard:
    path = absolute(answer.query) if answer.failure is None else answer.failure.path
    is_mix = answer.failure is None and (" + " in answer.query or " - " in answer.query) and not exists(path)
    return ImageCard("" if is_mix else path, caption="query", name=answer.query)


def outliers_page(store: Store, outliers: Sequence[Outlier], display: Display) -> OutliersPage:
    """Return the page of some outliers, each beside the image nearest to it."""
    views = [
        OutlierView(
            ImageCard(
                as_written(one.path),
                one.id,
                note=one.reason,
                caption=f"{one.rank}  {one.times:.1f} × as far  {os.path.basename(one.path)}",
                name=display(one.path),
            ),
            ImageCard(as_written(one.nearest), distance=one.distance, name=display(one.nearest)),
            one.times,
        )
        for one in outliers
    ]
    of = f"The {count(len(views), 'image')}" if len(views) > 1 else "The image"
    title = f"{of} least like any other" if views else "Outliers"
    note = _among(store)
    if views and max(one.times for one in views) < NEAR:
        note += "; none stands far out"
    legend = (
        "Beside each outlier is the image that is most similar to it. 2.0× means that it is twice as far away as "
        "the most similar image usually is, by the median."
    )
    empty = "" if views else f"No outliers {note}"
    return OutliersPage(title, _facts(store), views, note, legend, empty)


def duplicates_page(store: Store, found: Duplicates, display: Display) -> DuplicatesPage:
    """Return the page of groups of duplicates: the image to keep, why, and the others."""

    def view(one: Duplicate) -> DuplicateView:
        return DuplicateView(ImageCard(as_written(one.path), one.id, one.distance, name=display(one.path)), one)

    groups = [PageGroup([view(group.kept), *map(view, group.others)], group.why) for group in found.groups]
    note = f"among {count(found.images, 'image')}"
    facts = [*_facts(store), ("grades", ", ".join(found.grades))]
    legend = (
        "Nothing has been moved or deleted. A copy was verified on its pixels; the distance is that of the vectors."
    )
    empty = "" if groups else f"No two images duplicate each other {note}"
    return DuplicatesPage(f"{count(len(groups), 'group')} of duplicates", facts, groups, note, legend, empty)


def _among(store: Store) -> str:
    return f"among {count(store.catalogue.count()['images'], 'image')}"


def _facts(store: Store) -> list[tuple[str, str]]:
    return [("images", f"{store.catalogue.count()['images']:,}"), ("index", store.path)]
