"""Records in the store what a pipeline computed: new images, changed paths, copies and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgindex.encoders.encode_files import NOT_FINITE
from imgindex.errors import IndexDamaged
from imgindex.ingest.items import Copied, Failed, Opened, Prepared, Relocated, failure_of
from imgindex.sources.base import Content
from imgindex.sources.registry import is_gone
from imgindex.storage.records import KnownImage, NewImage, stored_stat
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile, Vectors


class StoreRecorder:
    """Records what a pipeline computed, and counts it; implements `Recorder`.

    counts, failures: the results of the run. blank: images of one colour, or nearly so, among those that were added or
    updated. reembed_ids: images whose stored vector is lost; they are embedded again although their content is known.
    """

    def __init__(self, writer: Writer, *, reembed_ids: frozenset[int] = frozenset()) -> None:
        self.writer = writer
        self.counts = dict.fromkeys(("added", "updated", "renamed", "unchanged", "reused", "restored"), 0)
        self.failures: list[Failure] = []
        self.blank = 0
        self._reembed_ids = reembed_ids
        # By SHA-256, contents on their way to the network, each with the other files that wait for the same vector.
        self._waiting: dict[bytes, list[Opened]] = {}
        # Ids of missing images that were found at another path in this run.
        self._renamed_ids: set[int] = set()

    @property
    def done(self) -> int:
        return sum(self.counts.values()) + len(self.failures)

    def sort(self, file: FoundFile, content: Content) -> Opened | Relocated | Copied | None:
        before = self.before(file)
        outcome = self.from_known_content(file, content.sha256, before)
        if outcome is not None:
            return outcome
        item = Opened(file, content, before is not None)
        if content.sha256 in self._waiting:
            self._waiting[content.sha256].append(item.without_data())
            return None
        self._waiting[content.sha256] = []
        return item

    def before(self, file: FoundFile) -> KnownImage | None:
        """Return the image that the index has at a file's path."""
        return self.writer.catalogue.known([file.path]).get(file.path)

    def known_content(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Return by path the SHA-256 of the content whose vector the index has for it."""
        known = self.writer.catalogue.known(paths)
        return {path: image.sha256 for path, image in known.items() if image.id not in self._reembed_ids}

    def from_known_content(
        self, file: FoundFile, sha256: bytes, before: KnownImage | None
    ) -> Relocated | Copied | None:
        """Return the outcome of a file whose content the index has a vector for; `before`: the image at its path."""
        if before is not None and before.sha256 == sha256 and before.id not in self._reembed_ids:
            kind = "unchanged" if before.present else "restored"
            return Relocated(before.id, file, kind, is_recorded=before.stat == stored_stat(file))
        same_content = self.writer.catalogue.same_content(sha256)
        if before is None:
            for image in same_content:
                if image.location.id not in self._renamed_ids and is_gone(image.path):
                    self._renamed_ids.add(image.location.id)
                    return Relocated(image.location.id, file, "renamed")
        for image in same_content:
            try:
                vector = self.writer.read(image.location)
            except IndexDamaged:
                continue  # `verify` reports it; here the image can be embedded again
            copy = NewImage(
                file, sha256, image.width, image.height, image.format, hashes=image.hashes, blank=image.blank
            )
            return Copied(copy, vector, before is not None)
        return None

    def record(self, item: Prepared, vector: Vectors) -> None:
        """Record an image's vector for its file, and for the files with the same content that waited for it."""
        others = self._waiting.pop(item.image.sha256, [])
        with np.errstate(over="ignore"):
            stored = vector.astype(self.writer.segments.dtype)  # numbers beyond the range of float16 become infinite
        if not np.isfinite(stored).all():
            for file in (item.image.file, *(other.file for other in others)):
                self._fail(failure_of(file, "embed", NOT_FINITE))
            return
        self.writer.put(item.image, vector)
        self.counts["updated" if item.known else "added"] += 1
        self.blank += bool(item.image.blank) * (1 + len(others))
        for other in others:
            self.writer.put(replace(item.image, file=other.file), vector)
            self.counts["updated" if other.known else "reused"] += 1

    def record_outcome(self, outcome: Relocated | Copied | Failed) -> None:
        match outcome:
            case Relocated(id, file, kind, is_recorded):
                if kind != "unchanged" or not is_recorded:
                    self.writer.move(id, file)
                self.counts[kind] += 1
            case Copied(image, vector, known):
                self.writer.put(image, vector)
                self.blank += bool(image.blank)
                self.counts["updated" if known else "reused"] += 1
            case Failed(failure, sha256):
                self._fail(failure)
                for other in self._waiting.pop(sha256, ()):
                    self._fail(failure_of(other.file, failure.stage, failure.reason))

    def commit(self) -> None:
        self.writer.commit()

    def _fail(self, failure: Failure) -> None:
        self.writer.fail(failure)
        self.failures.append(failure)
