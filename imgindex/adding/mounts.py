"""Tells a folder that someone emptied from a mount point whose disk is not there: both can be read and hold nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping

from imgindex.adding.survey import is_gone
from imgindex.errors import PathNotFound
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.paths import is_under


def away(catalogue: Catalogue) -> dict[str, str]:
    """Return the roots that look unmounted, each with the mount point that is none now.

    None of the images known below such a root is there; that they are gone for good, only its disk can tell.
    """
    unmounted = {root: mount for root, mount in catalogue.journal.mounts().items() if not os.path.ismount(mount)}
    if not unmounted:
        return unmounted
    images = [image.path for image in catalogue.images()]
    below = {root: [path for path in images if is_under(path, root)] for root in unmounted}
    return {root: unmounted[root] for root, paths in below.items() if paths and all(map(is_gone, paths))}


def refuse(roots: Iterable[str], unmounted: Mapping[str, str]) -> None:
    """Raise PathNotFound for a root that looks unmounted."""
    for root in roots:
        if root in unmounted:
            raise PathNotFound(
                f"none of the images of {root} is there, and no disk is mounted at {unmounted[root]} as before",
                hint=f"mount it; if they are gone for good, take them out: imgindex remove {shlex.quote(root)}",
            )


def record(catalogue: Catalogue, roots: Iterable[str]) -> None:
    """Remember roots, and where their disks are mounted."""
    journal, index = catalogue.journal, os.path.realpath(catalogue.path)
    known, before = set(journal.roots()), journal.mounts()
    found = {root: mount_point(root) for root in roots}
    # While the index is read the disk that it lies on is there.
    now = {root: None if is_under(index, mount) else mount for root, mount in found.items()}
    changed = {root: mount for root, mount in now.items() if root not in known or before.get(root) != mount}
    if changed:
        with catalogue.atomic():
            journal.add_roots(changed)


def mount_point(path: str) -> str:
    """Return the folder at which the disk is mounted that a path lies on."""
    folder = os.path.realpath(path)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder
