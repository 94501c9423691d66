"""Which groups of duplicates a person has decided: a page shows one group after the other, and holds few of them."""

from __future__ import annotations

from typing import Any

from imgindex.index import ImageIndex
from imgindex.results import Duplicates, Group

# The tags of images that a person keeps or does not need.
DECISIONS = ("keep", "spare")


def outline(index: ImageIndex, at: str, found: Duplicates) -> dict[str, Any]:
    """Return what a page has to know of all groups; at: the id of the answer.

    The groups are given by their numbers, from 1. decided: each of its images has a tag of DECISIONS. exact: all its
    images have the same bytes, and all but one can be deleted.
    """
    tagged = {id for tag in DECISIONS for id in index.ids(where=f"tags match '{tag}'").tolist()}
    numbered = list(enumerate(found.groups, 1))
    return {
        "at": at,
        "images": found.images,
        "groups": len(found.groups),
        "decided": [number for number, group in numbered if all(one.id in tagged for one in group.images)],
        "exact": [number for number, group in numbered if _is_exact(group)],
    }


def _is_exact(group: Group) -> bool:
    return not group.kept.problem and all(one.how == "same" and one.disposable for one in group.others)
