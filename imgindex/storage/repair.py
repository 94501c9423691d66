"""Repairs the files of an index: keeps the catalogue and every row that has its CRC32, and removes the rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from imgindex.errors import IndexDamaged
from imgindex.storage import checksum, durable, salvage
from imgindex.storage.catalogue import Catalogue, check_format
from imgindex.storage.compact import rewrite
from imgindex.storage.connection import LOGS, check_logs
from imgindex.storage.lock import WriteLock
from imgindex.storage.paths import PathMap
from imgindex.storage.segments import Segments, check_formats, make_folder
from imgindex.storage.store import CATALOGUE, check_exists
from imgindex.storage.writer import Writer
from imgindex.types import Image


class Repair:
    """The repair of one index: which images lost their vector, and which ones need to be confirmed by their file.

    messages: what was repaired so far, for the user.
    """

    def __init__(self, catalogue: Catalogue, segments: Segments) -> None:
        self.catalogue, self.segments = catalogue, segments
        self.settings = catalogue.settings()
        self.messages: list[str] = []
        self._broken = self._replace_broken_segments()
        self.writer = Writer(catalogue, segments)
        if self._broken:
            self.writer.begin_segment()

    def _replace_broken_segments(self) -> list[int]:
        """Copy every sound row from segments whose file is too short, missing or has a wrong header; return these."""
        broken = {}
        for number, rows in self.catalogue.segments().items():
            try:
                self.segments.check(number, rows)
            except IndexDamaged as error:
                broken[number] = str(error)
        if broken:
            saved = rewrite(self.catalogue, self.segments, list(broken), skip_damaged=True)
            self.messages += broken.values()
            self.messages.append(
                f"{counted(saved, 'sound vector')} saved from {counted(len(broken), 'broken segment')}"
            )
        return list(broken)

    def lost(self) -> list[Image]:
        """Return the images whose vector is gone or does not have its CRC32; missing images too."""
        rows = {number: count for number, count in self.catalogue.segments().items() if number not in self._broken}
        locations = self.catalogue.locations(include_missing=True)
        return self.catalogue.records(one.id for one in self.segments.damaged(locations, self.segments.maps(rows)))

    def unconfirmed(self) -> list[Image]:
        """Return the salvaged images, which are marked as missing until their files were read."""
        return [image for image in self.catalogue.records() if image.mtime_ns == salvage.UNCONFIRMED_MTIME]

    def set_picture(self, id: int, width: int, height: int, format: str) -> None:
        """Correct the size and format of an image's picture in a salvaged catalogue."""
        query = "update images set (width, height, format) = (?, ?, ?) where id = ?"
        with self.catalogue.atomic():
            self.catalogue.connection.execute(query, (width, height, format, id))

    def finish(self) -> list[Image]:
        """Delete the images that still have no vector, and files that are not needed; return these images."""
        dropped = self.lost()
        if dropped or self._broken:  # a sound catalogue is not changed
            with self.catalogue.atomic():
                self.catalogue.forget(image.id for image in dropped)
                self.catalogue.drop_segments(self._broken)
        for number in self._broken:
            # imgindex did not make a folder with that name. It can stay, as no segment gets that number again.
            if not os.path.isdir(self.segments.path(number)):
                with contextlib.suppress(FileNotFoundError):
                    durable.remove(self.segments.path(number))
        self.segments.recover(self.catalogue.segments())
        return dropped


@contextlib.contextmanager
def repair_files(path: str, *, wait: Callable[[], bool] = lambda: False) -> Iterator[Repair]:
    """Make the catalogue of an index readable, and lend the index for repair.

    If the process dies inside the block, the next repair continues. Raises IndexNotFound, IndexLocked, FormatTooNew
    (and changes nothing), or IndexDamaged when the recipe itself is lost.
    """
    path = os.path.abspath(path)
    check_exists(path, path)
    database = os.path.join(path, CATALOGUE)
    with WriteLock(os.path.join(path, "lock"), wait=wait):
        check_format(database)
        check_logs(database)
        checksum.check_place(database)
        make_folder(os.path.join(path, "segments"))
        check_formats(os.path.join(path, "segments"))
        messages = _remove_foreign_log(database)
        damage = salvage.damage(path)
        saved = salvage.salvage(path) if damage else 0
        # Written again at the end: if the process dies earlier, no checksum matches the changed catalogue.
        checksum.remove(database)
        with contextlib.closing(Catalogue(database, PathMap(path), write=True)) as catalogue:
            segments = Segments.from_settings(os.path.join(path, "segments"), catalogue.settings())
            repair = Repair(catalogue, segments)
            repair.messages[:0] = messages
            if damage:
                repair.messages.insert(
                    0, f"{damage}: the catalogue was rewritten with {counted(saved, 'image')} that could be read"
                )
            yield repair
            catalogue.checkpoint()
        checksum.write_when_closed(database)


def _remove_foreign_log(database: str) -> list[str]:
    """Remove a log that belongs to another catalogue, because the last writer of this one left no log."""
    stored = checksum.read(database)
    if stored is None or not stored.closed or not checksum.log_size(database):
        return []
    for ending in LOGS:
        with contextlib.suppress(FileNotFoundError):
            durable.remove(database + ending)
    return [f"{database}-wal did not belong to this catalogue, and was removed"]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
