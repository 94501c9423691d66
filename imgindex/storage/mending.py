"""What `repair` does to the store: saves the catalogue and every row that has its CRC32, clears away the rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from imgindex.errors import IndexDamaged
from imgindex.storage import checksum, durable, salvage
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.compact import rewrite
from imgindex.storage.connection import LOGS, check_logs
from imgindex.storage.lock import WriteLock
from imgindex.storage.paths import PathMap
from imgindex.storage.segments import Segments, make_folder
from imgindex.storage.store import CATALOGUE, check_exists
from imgindex.storage.writer import Writer
from imgindex.types import Image


class Mending:
    """An index under repair: which images have lost their vector, and which ones must be seen to be believed."""

    def __init__(self, catalogue: Catalogue, segments: Segments) -> None:
        self.catalogue, self.segments = catalogue, segments
        self.settings = catalogue.settings()
        self.said: list[str] = []
        self._broken = self._leave_broken_segments()
        self.writer = Writer(catalogue, segments)
        if self._broken:
            self.writer.begin_segment()

    def _leave_broken_segments(self) -> list[int]:
        """Copy every sound row out of segments whose file is cut short, missing or has no right header."""
        broken = {}
        for number, rows in self.catalogue.segments().items():
            try:
                self.segments.check(number, rows)
            except IndexDamaged as error:
                broken[number] = str(error)
        if broken:
            saved = rewrite(self.catalogue, self.segments, list(broken), skip_damaged=True)
            self.said += broken.values()
            self.said.append(f"{saved} sound vectors were saved out of {len(broken)} broken segments")
        return list(broken)

    def lost(self) -> list[Image]:
        """Return the images whose vector does not have its CRC32, or is gone; hidden ones too."""
        rows = {number: count for number, count in self.catalogue.segments().items() if number not in self._broken}
        places = self.catalogue.locations(hidden=True)
        return self.catalogue.records(place.id for place in self.segments.damaged(places, self.segments.maps(rows)))

    def doubtful(self) -> list[Image]:
        """Return the images of a catalogue that was damaged, which are hidden until someone has seen their files."""
        return [image for image in self.catalogue.records() if image.mtime_ns == salvage.NEVER]

    def describe(self, id: int, width: int, height: int, format: str) -> None:
        """Correct what a damaged catalogue said of an image's picture."""
        query = "update images set (width, height, format) = (?, ?, ?) where id = ?"
        with self.catalogue.atomic():
            self.catalogue.connection.execute(query, (width, height, format, id))

    def finish(self) -> list[Image]:
        """Drop the images that have no vector still, and the files that nobody needs; return those images."""
        dropped = self.lost()
        if dropped or self._broken:  # a sound catalogue is not written to
            with self.catalogue.atomic():
                self.catalogue.forget(image.id for image in dropped)
                self.catalogue.drop_segments(self._broken)
        for number in self._broken:
            # A folder with that name is somebody else's, and in nobody's way: no segment gets that number again.
            if not os.path.isdir(self.segments.path(number)):
                with contextlib.suppress(FileNotFoundError):
                    durable.remove(self.segments.path(number))
        self.segments.recover(self.catalogue.segments())
        return dropped


@contextlib.contextmanager
def mending(path: str, *, wait: Callable[[], bool] = lambda: False) -> Iterator[Mending]:
    """Lend an index for repair, its catalogue readable again; who dies in here leaves it for the next repair.

    Raises IndexNotFound, IndexLocked, FormatTooNew, or IndexDamaged when the recipe itself is lost.
    """
    path = os.path.abspath(path)
    check_exists(path, path)
    database = os.path.join(path, CATALOGUE)
    with WriteLock(os.path.join(path, "lock"), wait=wait):
        check_logs(database)
        checksum.check_place(database)
        make_folder(os.path.join(path, "segments"))
        said = _leave_foreign_log(database)
        damage = salvage.damage(path)
        saved = salvage.salvage(path) if damage else 0
        # Until the end, so that who dies here leaves nothing that says of a changed catalogue that it is the old one.
        checksum.withdraw(database)
        with contextlib.closing(Catalogue(database, PathMap(path), write=True)) as catalogue:
            segments = Segments.from_settings(os.path.join(path, "segments"), catalogue.settings())
            mend = Mending(catalogue, segments)
            mend.said[:0] = said
            if damage:
                mend.said.insert(0, f"{damage}: it was written anew, with the {saved} images that could be read")
            yield mend
            catalogue.checkpoint()
        checksum.settle(database)


def _leave_foreign_log(database: str) -> list[str]:
    """Remove a log that is not this catalogue's, for its last writer left none; tell of it."""
    sealed = checksum.stored(database)
    if sealed is None or not sealed.closed or not checksum.log_size(database):
        return []
    for ending in LOGS:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(database + ending)
    return [f"{database}-wal was no log of this catalogue, and is gone"]
