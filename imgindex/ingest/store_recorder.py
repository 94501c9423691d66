"""Records in the store what a pipeline computed: new images, changed paths, copies and failures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from imgindex.encoders.encode_files import NOT_FINITE
from imgindex.errors import IndexDamaged
from imgindex.ingest.items import Copied, Failed, Opened, Outcome, Prepared, Relocated, failure_of
from imgindex.sources.registry import is_gone
from imgindex.storage.records import KnownImage, NewImage, SameContent, stored_stat
from imgindex.storage.writer import Writer
from imgindex.types import Failure, FoundFile, Vectors

# What is recorded is committed after so many seconds, or when it is so many changes, or vectors of so many bytes.
COMMIT_SECONDS, COMMIT_CHANGES, COMMIT_BYTES = 0.5, 16_384, 32 << 20


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
        # By SHA-256, contents whose vector is recorded but not committed, so that the catalogue does not have it yet.
        self._recorded: dict[bytes, tuple[NewImage, Vectors]] = {}
        # Files that have to go through the pipeline again.
        self._again: list[FoundFile] = []
        # Ids of missing images that were found at another path in this run.
        self._renamed_ids: set[int] = set()
        self.is_first = not writer.catalogue.has_images()
        self._commit_failed = False
        self._last_commit = time.monotonic()

    @property
    def done(self) -> int:
        return sum(self.counts.values()) + len(self.failures)

    def decide(self, lot: list[Opened | Failed]) -> list[Opened | Outcome]:
        """Return files with a new content as Opened, to be decoded, and the others as an Outcome or not at all."""
        opened = [item for item in lot if isinstance(item, Opened)]
        before = self.before([item.file.path for item in opened])
        same_content = self.writer.catalogue.same_contents({item.content.sha256 for item in opened})
        decided: list[Opened | Outcome] = []
        for read in lot:
            if isinstance(read, Failed):
                decided.append(read)
                continue
            sha256, known = read.content.sha256, before.get(read.file.path)
            outcome = self.from_known_content(read.file, sha256, known, same_content.get(sha256, ()))
            item = replace(read, known=True) if known else read
            if outcome is not None:
                decided.append(outcome)
            elif sha256 in self._waiting:
                self._waiting[sha256].append(item.without_data())
            else:
                self._waiting[sha256] = []
                decided.append(item)
        return decided

    def before(self, paths: Sequence[str]) -> dict[str, KnownImage]:
        """Return by path the images that the index had there before this run."""
        return {} if self.is_first else self.writer.catalogue.known(paths)

    def known_content(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Return by path the SHA-256 of the content whose vector the index has for it."""
        before = self.before(paths)
        return {path: image.sha256 for path, image in before.items() if image.id not in self._reembed_ids}

    def from_known_content(
        self, file: FoundFile, sha256: bytes, before: KnownImage | None, same_content: Sequence[SameContent]
    ) -> Relocated | Copied | None:
        """Return the outcome of a file whose content the index has a vector for; `before`: the image at its path."""
        if before is not None and before.sha256 == sha256 and before.id not in self._reembed_ids:
            kind = "unchanged" if before.present else "restored"
            return Relocated(before.id, file, kind, is_recorded=before.stat == stored_stat(file))
        if before is None:
            for image in same_content:
                if image.location.id not in self._renamed_ids and is_gone(image.path):
                    self._renamed_ids.add(image.location.id)
                    return Relocated(image.location.id, file, "renamed")
        known = before is not None
        if sha256 in self._recorded:
            recorded, vector = self._recorded[sha256]
            return Copied(replace(recorded, file=file), vector, known)
        for image in same_content:
            try:
                vector = self.writer.read(image.location)
            except IndexDamaged:
                continue  # `verify` reports it; here the image can be embedded again
            copy = NewImage(
                file, sha256, image.width, image.height, image.format, hashes=image.hashes, blank=image.blank
            )
            return Copied(copy, vector, known)
        return None

    def record(self, batch: Sequence[Prepared], vectors: Vectors) -> None:
        """Record vectors for the files of images, and for the files with the same content that waited for them."""
        with np.errstate(over="ignore"):
            stored = vectors.astype(self.writer.segments.dtype)  # numbers beyond the range of float16 become infinite
        are_finite = np.isfinite(stored).all(axis=1).tolist()
        for item, vector, is_finite in zip(batch, vectors, are_finite, strict=True):
            self._record(item, vector, is_finite=is_finite)

    def _record(self, item: Prepared, vector: Vectors, *, is_finite: bool) -> None:
        others = self._waiting.pop(item.image.sha256, [])
        if not is_finite:
            for file in (item.image.file, *(other.file for other in others)):
                self._fail(failure_of(file, "embed", NOT_FINITE))
            return
        self._recorded[item.image.sha256] = item.image, vector
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
                others = self._waiting.pop(sha256, ())
                if failure.stage == "read":
                    # This file changed after it was read for the first time; the others still have the content.
                    self._again += [other.file for other in others]
                    return
                for other in others:
                    self._fail(failure_of(other.file, failure.stage, failure.reason))

    def take_again(self) -> list[FoundFile]:
        again, self._again = self._again, []
        return again

    def commit(self, *, if_due: bool = False) -> None:
        """Commit what is recorded; `if_due`: only if it is time to, or if it is much."""
        if if_due and not self._is_due():
            return
        self._commit_failed = True
        self.writer.commit()
        self._commit_failed = False
        self._recorded.clear()
        self._last_commit = time.monotonic()

    def commit_after(self, error: BaseException) -> None:
        """Commit what was recorded before an error; not where a commit failed, or the caller left the pipeline."""
        if not isinstance(error, GeneratorExit) and not self._commit_failed:
            self.commit()

    def _is_due(self) -> bool:
        changes = len(self.writer)
        vector_bytes = changes * self.writer.segments.row_size
        waited = time.monotonic() - self._last_commit
        return waited >= COMMIT_SECONDS or changes >= COMMIT_CHANGES or vector_bytes >= COMMIT_BYTES

    def _fail(self, failure: Failure) -> None:
        self.writer.fail(failure)
        self.failures.append(failure)
