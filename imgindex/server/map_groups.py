"""The groups that colour a map: clusters, folders or tags."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgindex.errors import ClusteringNotFound
from imgindex.gallery.map import Map
from imgindex.index import ImageIndex
from imgindex.vectors.rows import Labels

# The groups of folders and tags that a map tells apart, those with most images.
MOST_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Groups:
    """of_each (n,): the place of the group of each image of a map in `all`, −1 for none.

    all: the name, number of images and colour of each, and the label of a cluster.
    """

    of_each: Labels
    all: list[dict[str, Any]]


def of_images(index: ImageIndex, found: Map, by: str, clustering: int | None) -> Groups:
    """Return the groups of the images of a map; clustering: None for the newest, if there is one.

    Raises ClusteringNotFound for a clustering that does not exist.
    """
    if by == "folder":
        return _by_folder(found)
    return _by_tag(index, found) if by == "tag" else _by_cluster(index, found, clustering)


def _by_cluster(index: ImageIndex, found: Map, clustering: int | None) -> Groups:
    of_each = np.full(len(found.ids), -1, np.int64)
    try:
        members = index.clusterings.newest if clustering is None else index.clusterings[clustering]
    except ClusteringNotFound:
        if clustering is not None:
            raise
        return Groups(of_each, [])
    at = np.searchsorted(members.ids, found.ids).clip(max=len(members.ids) - 1)
    same = members.ids[at] == found.ids
    of_each[same] = members.labels[at[same]]
    sizes = np.bincount(of_each[of_each >= 0], minlength=members.k).tolist()
    return Groups(
        of_each,
        [
            {
                "name": one.name or f"cluster {one.label}",
                "images": sizes[one.label],
                "colour": one.id,
                "label": one.label,
            }
            for one in members.clusters
        ],
    )


def _by_folder(found: Map) -> Groups:
    folders = [os.path.dirname(path) for path in found.paths]
    counts = Counter(folders)
    names = [name for name, _ in counts.most_common(MOST_GROUPS)]
    shown = _without_common(names)
    place = {name: number for number, name in enumerate(names)}
    return Groups(
        np.array([place.get(folder, -1) for folder in folders], np.int64),
        [{"name": shown[number], "images": counts[name], "colour": number} for number, name in enumerate(names)],
    )


def _without_common(folders: list[str]) -> list[str]:
    """Return paths of folders without the parts that all have, but for the last of these."""
    parts = [folder.split("/") for folder in folders]
    columns = enumerate(zip(*parts, strict=False))
    common = next((at for at, names in columns if len(set(names)) > 1), min(map(len, parts), default=0))
    return ["/".join(one[max(0, common - 1) :]) for one in parts]


def _by_tag(index: ImageIndex, found: Map) -> Groups:
    """An image with several tags is in the group of the one that fewest images have: it says most."""
    tags = list(index.tags().items())[:MOST_GROUPS]
    of_each = np.full(len(found.ids), -1, np.int64)
    for number, (tag, _) in enumerate(tags):  # the most frequent one first
        having = index.ids(where="tags match '{}'".format(tag.replace("'", "''")))
        of_each[np.isin(found.ids, having)] = number
    sizes = np.bincount(of_each[of_each >= 0], minlength=len(tags)).tolist()
    return Groups(
        of_each,
        [{"name": tag, "images": sizes[number], "colour": number} for number, (tag, _) in enumerate(tags)],
    )
