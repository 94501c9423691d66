"""What people say of the images of an index: tags, and metadata from a table."""

from __future__ import annotations

import os
from collections.abc import Iterable

from imgindex.adding.survey import absolute
from imgindex.describing import ImportReport, TagReport
from imgindex.storage.store import Store
from imgindex.types import Path


class Describing:
    """The methods of an ImageIndex that say something of its images; it stays with an image that is renamed."""

    _store: Store
    wait: bool

    def tag(
        self, name: str, paths: Iterable[Path] | None = None, *, where: str | None = None, remove: bool = False
    ) -> TagReport:
        """Put a tag on images, those below a folder too, or on those that fulfil a condition; or take it off.

        Raises UsageError for what is no tag or no condition, PathNotFound (and changes nothing) when the index has no
        image at a path, IndexLocked.
        """
        from imgindex.describing import tag

        named = None if paths is None else [absolute(path) for path in paths]
        return tag(self._store, name, named, where, remove=remove, wait=lambda: self.wait)

    def tags(self) -> dict[str, int]:
        """Return how many images have each tag, the most frequent first."""
        from imgindex.storage.tags import count_tags

        return count_tags(self._store.catalogue)

    def import_csv(self, path: Path, *, id: str = "stem") -> ImportReport:
        """Join the columns of a CSV to the images, by its first column; all of it or, when it raises, nothing.

        id: what that column is, stem, name or path (relative to the folder that holds the index). Numbers become
        numbers, an empty value takes one away, and ids that no image has are in the report.

        Raises UsageError for what is no such table or images that have the same id, OSError, IndexLocked.
        """
        from imgindex.describing import import_csv

        return import_csv(self._store, os.fspath(path), id, wait=lambda: self.wait)
