"""Random trees for the campaign `names`: files of any name, time and size, links of every kind, and what they mean."""

from __future__ import annotations

import os
import random
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from imgindex.sources.selection import IMAGE_SUFFIXES

# Names that programs have taken for something else, or have changed.
ODD = (
    "~", "~root", "-", "--", "-n", "-0", "@file", "set.zip", "+", "*", "?", "[a]", "a b", " a", "a ", "a.", "a..",
    "new\nline", "cr\r", "tab\t", "\\", "\\n", "\"", "'", "$HOME", "`id`", ";", "&", "|", "%s", "%00", "#", "NUL",
    "a,b", "a=b", "a:b", "file:", "http:", "null", "none", "0", "1e400", "\u202egnp", "\u200f", "\ufeff", "\u00a0",
    "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u00e9", "e\u0301", "\u00c5", "\u212b", "A\u030a",
    "\u1100\u1161", "\uac00", "i\u0307", "\ufb01", "\u03a9", "\u2126", "\udcff", "\udced\udca0\udc80", "\x7f", "\x01",
    "CON", "...", "\x1b[31m",
)  # fmt: skip
ENDINGS = (".png", ".PNG", ".jpg", ".Jpeg", ".tif", ".webp", ".apng")
LONGEST = 255
# Nanoseconds since 1970: 1601, around 1970, around what 64 bits reach, 9999, and beyond all calendars.
TIMES = (-11_644_473_600 * 10**9, -(10**9), -1, 0, 1, 2**63 - 1, 2**63, 253_402_300_799 * 10**9, 10**22, -(10**22))
HUGE, SMALL = (10**10, 10**15, 2**62), 10**6


def random_name(chance: random.Random, ending: str) -> str:
    """Return a name that a file can have, with an ending."""
    kind = chance.random()
    if kind < 0.4:
        name = chance.choice(ODD)
    elif kind < 0.7:
        name = os.fsdecode(bytes(chance.choice([*range(1, 47), *range(48, 256)]) for _ in range(chance.randint(1, 12))))
    elif kind < 0.8:
        name = unicodedata.normalize(
            chance.choice(["NFC", "NFD"]), chance.choice(["\u00e9t\u00e9", "\u00fc", "\u1e69"])
        )
    else:
        name = "".join(chance.choice("abcXYZ019 .") for _ in range(chance.randint(1, 20)))
    if chance.random() < 0.05:
        name = name * LONGEST
    data = os.fsencode(name)[: LONGEST - len(ending)]
    return os.fsdecode(data.lstrip(b".") or b"x") + ending


class Tree:
    """A folder of random files, which changes at random, and what an index of it has to hold."""

    def __init__(self, root: str, chance: random.Random) -> None:
        self.root, self.chance = root, chance
        self.pictures = 0
        os.makedirs(root)
        self._outside = os.path.join(os.path.dirname(root), "outside")
        os.makedirs(self._outside)
        for _ in range(chance.randint(15, 30)):
            self.grow()

    def folders(self) -> list[str]:
        return [self.root, *(path for path in self.entries() if os.path.isdir(path) and not os.path.islink(path))]

    def entries(self) -> list[str]:
        """Return everything below the root, without following links."""
        return [os.path.join(folder, name) for folder, subs, files in os.walk(self.root) for name in (*subs, *files)]

    def files(self) -> list[str]:
        return [path for path in self.entries() if stat.S_ISREG(os.lstat(path).st_mode)]

    def _new(self, ending: str, folder: str | None = None) -> str:
        while True:
            where = self.chance.choice(self.folders()) if folder is None else folder
            path = os.path.join(where, random_name(self.chance, ending))
            if not os.path.lexists(path):
                return path

    def grow(self) -> None:
        """Add something: a picture, a copy, a folder, a link, or what is not a picture."""
        chance, files = self.chance, self.files()
        kind = chance.choice(
            ["picture"] * 6 + ["copy", "hard", "link", "outside", "folder", "folder", "form"] + ["odd"]
        )
        ending = chance.choice(ENDINGS)
        if kind == "picture" or not files:
            self.draw(self._new(ending))
        elif kind == "copy":
            # Not of a huge file: a copy would not be sparse.
            small = [path for path in files if os.lstat(path).st_size < SMALL]
            if small:
                shutil.copy2(chance.choice(small), self._new(ending))
        elif kind == "hard":
            os.link(chance.choice(files), self._new(ending))
        elif kind == "link":
            target = chance.choice([*files, *self.folders(), "nowhere"])
            path = self._new(chance.choice([ending, ""]))
            os.symlink(chance.choice([target, os.path.relpath(target, os.path.realpath(os.path.dirname(path)))]), path)
        elif kind == "outside":
            target = self._new(ending, self._outside)
            self.draw(target)
            os.symlink(target, self._new(ending))
        elif kind == "folder":
            os.mkdir(self._new(chance.choice(["", "", ending])))
        elif kind == "form":
            path = chance.choice(files)
            folder, name = os.path.split(path)
            other = os.path.join(folder, unicodedata.normalize(chance.choice(["NFC", "NFD"]), name))
            if not os.path.lexists(other) and len(os.fsencode(os.path.basename(other))) <= LONGEST:
                self.draw(other)
        else:
            path = self._new(ending)
            with open(path, "wb") as file:
                if chance.random() < 0.5:
                    try:
                        file.truncate(chance.choice(HUGE))
                    except OSError:
                        file.write(b"not a picture")
        # A name such as ~ is no ending: the file is passed over.

    def draw(self, path: str) -> None:
        """Write a picture that no other file has, with any time."""
        self.pictures += 1
        colours = np.random.default_rng([self.pictures, self.chance.getrandbits(32)]).integers(
            0, 256, (2, 2, 3), np.uint8
        )
        pixels = np.kron(colours, np.ones((16, 16, 1), np.uint8))
        before = self._time(path) if os.path.exists(path) else None
        with open(path, "wb") as file:
            Image.fromarray(pixels).save(file, "PNG")
        while self._time(path) in (before, None):
            time = self.chance.choice([*TIMES, *[self.chance.randint(10**18, 2 * 10**18)] * 4])
            os.utime(path, ns=(time, time))
            if before is None:
                break

    def _time(self, path: str) -> int:
        """Return the time of a file as the index keeps it."""
        return max(-(2**63), min(2**63 - 1, os.stat(path).st_mtime_ns))

    def change(self) -> None:
        """Delete, rename, rewrite or touch a file, retarget a link, or add something."""
        chance = self.chance
        kind = chance.choice(["delete", "rename", "rewrite", "touch", "grow", "folder"])
        files = self.files()
        if kind == "grow" or not files:
            self.grow()
        elif kind == "delete":
            os.unlink(
                chance.choice([path for path in self.entries() if not os.path.isdir(path) or os.path.islink(path)])
            )
        elif kind == "rename":
            os.rename(chance.choice(files), self._new(chance.choice(ENDINGS)))
        elif kind == "rewrite":
            self.draw(chance.choice(files))
        elif kind == "touch":
            time = chance.choice(TIMES)
            os.utime(chance.choice(files), ns=(time, time))
        elif len(self.folders()) > 1:
            folder = chance.choice(self.folders()[1:])
            new = self._new("")
            if not new.startswith(f"{folder}/"):
                os.rename(folder, new)
                self._remove_links_outwards()

    def _remove_links_outwards(self) -> None:
        """Remove links that lead out of the campaign's folder: `../..` of a moved folder may be all temporary files."""
        home = os.path.dirname(self.root)
        for path in filter(os.path.islink, self.entries()):
            if not os.path.realpath(path).startswith(f"{home}/"):
                os.unlink(path)

    def expected(self) -> tuple[dict[str, bytes], set[str]]:
        """Return the content of each file that is an image, by its real path, and the real paths of those that are not.

        A link that leads nowhere counts by its own path.
        """
        images: dict[str, bytes] = {}
        failures: set[str] = set()
        for path in self._found(self.root, set()):
            real = os.path.realpath(path)
            try:
                info = os.stat(path)
            except OSError:
                failures.add(os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)))
                continue
            data = b"" if info.st_size > SMALL else Path(real).read_bytes()
            if data.startswith(b"\x89PNG"):
                images[real] = data
            else:
                failures.add(real)
        return images, failures

    def _found(self, folder: str, entered: set[str]) -> Iterator[str]:
        real = os.path.realpath(folder)
        if real in entered:
            return
        entered.add(real)
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith("."):
                continue
            if os.path.isdir(path):
                if not name.endswith(".imgindex"):
                    yield from self._found(path, entered)
            elif name.rpartition(".")[0] and "." + name.rpartition(".")[2].lower() in IMAGE_SUFFIXES:
                yield path


def forms(path: str, tree: Tree, home: str) -> list[str]:
    """Return other ways to write the path of a file, all of which lead to it."""
    chance = tree.chance
    below, relative = os.path.relpath(path, tree.root), os.path.relpath(path)
    found = [
        path,
        "/" + path,
        f"./{relative}",
        f"~/{os.path.relpath(path, home)}",
        f"alias/{below}",
        f"alias//./{below}",
    ]
    folder = chance.choice(tree.folders())
    up = os.path.relpath(path, os.path.realpath(folder))
    found += [f"{folder}/{up}", f"alias/../{os.path.basename(tree.root)}/{below}"]
    if not relative.startswith(("~", "-", "+")):
        found.append(relative)
    found = [one for one in found if os.path.exists(os.path.expanduser(one) if one.startswith("~/") else one)]
    assert all(os.path.samefile(os.path.expanduser(one) if one.startswith("~/") else one, path) for one in found)
    other = unicodedata.normalize(chance.choice(["NFC", "NFD"]), path)
    if not os.path.lexists(other) and _is_unambiguous(path):
        found.append(other)
    return found


def _is_unambiguous(path: str) -> bool:
    while path != "/":
        path, name = os.path.split(path)
        same = [
            one for one in os.listdir(path) if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", name)
        ]
        if len(same) > 1:
            return False
    return True
