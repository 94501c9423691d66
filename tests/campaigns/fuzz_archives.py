"""Fuzzes archives: what is listed is read with its own bytes, or is a failure; no file appears beside the archive."""

from __future__ import annotations

import os
import random
from pathlib import Path

from archived import TARS, pack
from fuzz_bytes import Outcome, altered, tried

from imgindex.errors import UnreadableImage
from imgindex.sources.registry import ARCHIVES, find_files, have_image_content, is_gone, read_content
from imgindex.types import Failure, FoundFile, UnnamedFile

ENDINGS = ("stored.zip", "deflated.zip", *TARS)


class Archives:
    """Cases of zips and tars, plain and compressed, altered."""

    def __init__(self, place: Path) -> None:
        self.place = place
        dice = random.Random(0)
        files = {f"{name}/{number}.jpg": dice.randbytes(300) * 3 for number, name in enumerate(("a", "b", "é" * 80))}
        files |= {"c/unnamed": b"GIF89a" + dice.randbytes(100), "a/0.json": b'{"width": 3}', "a/0.txt": b"a dog"}
        self.contents = set(files.values())
        made = {ending: pack(place / f"set{ending}", files) for ending in ENDINGS}
        self.sound = {ending: path.read_bytes() for ending, path in made.items()}
        for path in made.values():
            path.unlink()
        self.all = list(self.sound.values())

    def case(self, dice: random.Random) -> list[Outcome]:
        """List an altered archive, and read all that it has."""
        ending = dice.choice(ENDINGS)
        path = self.place / f"set{ending}"
        path.write_bytes(altered(self.sound[ending], dice, self.all))
        outcome = tried("archive", lambda: self._read(path))
        if os.listdir(self.place) != [path.name]:
            return [("a file was written", AssertionError(f"{ending}: {os.listdir(self.place)}"))]
        path.unlink()
        ARCHIVES.forget(str(path))
        return [outcome]

    def _read(self, path: Path) -> str:
        found = list(find_files([str(path)]))
        read = unreadable = 0
        for file in found:
            if isinstance(file, Failure):
                continue
            assert isinstance(file, FoundFile)
            assert not is_gone(file.path)
            if isinstance(file, UnnamedFile):
                list(have_image_content([file.path]))
            try:
                content = read_content(file.path)
            except UnreadableImage:
                unreadable += 1
                continue
            read += 1
            assert content.file_at(file.path) == FoundFile(
                file.path, file.size, file.mtime_ns, file.ctime_ns, file.inode, file.version
            )
            # A zip has checksums. The name of an altered member may be that of another one.
            if path.suffix == ".zip" and content.data not in self.contents:
                raise AssertionError("other bytes were read than were packed")
        whole = "all" if len(found) == read else "some" if read else "nothing"
        return f"{whole} of it is read"
