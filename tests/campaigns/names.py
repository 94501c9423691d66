"""Names, times, sizes and links at random: what the index holds and answers is what a model of the disk says.

Each round makes a tree of random files (names_tree.py), adds it, asks for its images by other ways to write their
paths, changes the tree, and adds it again. Times are those of an ordinary disk, or of one in memory, which keeps any.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from campaign import Figures, main
from decoders_here import DecodersHere
from grid_mean import GridMean
from names_tree import Tree, forms

from imgindex import ImageIndex, link_folders
from imgindex.cli.inputs import _split

ROUNDS = {"ci": 6, "full": 120}
CHANGES = 3
ASKED = 8
IN_MEMORY = "/dev/shm"
# Folders of 250 bytes nested so deep that no system call takes their path.
DEEP, DEPTH = "d" * 250, 18


class Round:
    """One tree and its index; `lost` has a line for each promise that did not hold."""

    def __init__(self, home: str, chance: random.Random) -> None:
        self.home, self.chance = home, chance
        self.tree = Tree(os.path.join(home, "tree"), chance)
        os.symlink("tree", os.path.join(home, "alias"))
        self.tried: Counter[str] = Counter()
        self.lost: list[str] = []

    def check(self, holds: bool, what: str, *values: object) -> None:
        self.tried["checks"] += 1
        if not holds:
            self.lost.append(f"{what}: {', '.join(map(ascii, values))}"[:600])

    def run(self) -> None:
        encoder = GridMean()
        with ImageIndex.create(os.path.join(self.home, "i.imgindex"), encoder=encoder) as index:
            index._decoders = DecodersHere(index.recipe)
            for number in range(CHANGES):
                ids = {os.path.realpath(image.path): image.id for image in index.images()}
                root = self.chance.choice(["tree", "./tree/", "~/tree", f"/{self.home}/alias", "alias/../tree"])
                report = index.add(root)
                self.compare(index, f"add {number} of {root!r}")
                self.check(report.found == len(index) + report.failed, "found", report)
                self.keeps_ids(index, ids)
                embedded = encoder.embedded
                again = index.add(self.chance.choice(["tree", "alias"]))
                self.check(again.unchanged == len(index), "a second add has all unchanged", again, len(index))
                self.check(encoder.embedded == embedded, "a second add embeds nothing")
                self.ask(index)
                for _ in range(self.chance.randint(1, 8)):
                    self.tree.change()
            index.add("tree")
            self.export(index)
            self.remove(index)
            problems = index.verify(full=True)
            self.check(problems.ok, "verify", problems)

    def compare(self, index: ImageIndex, when: str) -> None:
        """Compare images and failures with the disk."""
        images, failures = self.tree.expected()
        held = Counter(os.path.realpath(path) for path in index.paths())
        self.tried["images"] += len(images)
        self.check(set(held) == set(images), f"{when}: images", set(held) ^ set(images))
        self.check(max(held.values(), default=1) == 1, f"{when}: one image for each file", held.most_common(1))
        known = {self._real(failure.path) for failure in index.failures()}
        self.check(known == failures, f"{when}: failures", known ^ failures)

    def _real(self, path: str) -> str:
        if os.path.exists(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        return os.path.join(os.path.realpath(folder), name)

    def keeps_ids(self, index: ImageIndex, before: dict[str, int]) -> None:
        """An image whose file is still there has its id."""
        now = {os.path.realpath(image.path): image.id for image in index.images()}
        moved = [
            path for path, id in before.items() if path in now and now[path] != id and now[path] < max(before.values())
        ]
        self.check(not moved, "ids", moved)

    def ask(self, index: ImageIndex) -> None:
        """Ask for some images by other ways to write their paths: each is its own image, and its copies are matches."""
        images, _ = self.tree.expected()
        stored = {os.path.realpath(image.path): image for image in index.images()}
        asked = [path for path in images if path in stored and path.startswith(f"{self.tree.root}/")]
        for real in self.chance.sample(sorted(asked), min(ASKED, len(asked))):
            path = self.chance.choice(forms(real, self.tree, self.home))
            self.tried["ways to write a path"] += 1
            copies = {stored[one].id for one in stored if images[one] == images[real] and one != real}
            matches = index.similar(path, n=len(stored))
            self.check(stored[real].id not in {match.id for match in matches}, "similar: itself", path)
            self.check({match.id for match in matches if match.distance == 0} == copies, "similar: copies", path)
            (found,) = index.lookup(path)
            self.check(found.id == stored[real].id, "lookup", path, found)
            self.check(index.add(path).unchanged == 1, "add of one file", path)
            self.check(index.tag("x", path).images == 1, "tag", path)
            tagged = [image.id for image in index.images(where="tags match 'x'")]
            self.check(tagged == [stored[real].id], "the tagged image", path, tagged)
            index.tag("x", path, remove=True)
        groups = Counter(images[path] for path in stored)
        found_groups = index.duplicates(exact=True).groups
        self.check(len(found_groups) == sum(count > 1 for count in groups.values()), "groups of copies", found_groups)
        self.lists(index.paths())

    def lists(self, paths: Iterable[str]) -> None:
        """Paths come back from a list as they were: any name in a list of NULs, others in a list of lines."""
        paths = list(paths)
        data = b"".join(os.fsencode(path) + b"\0" for path in paths)
        self.check(list(_split(io.BytesIO(data), null=True)) == paths, "a list of NULs")
        lines = [path for path in paths if "\n" not in path]
        for end in (b"\n", b"\r\n"):
            data = b"".join(os.fsencode(path) + end for path in lines)
            read = list(_split(io.BytesIO(data), null=False))
            self.check(read == lines, "a list of lines", set(read) ^ set(lines))

    def export(self, index: ImageIndex) -> None:
        """Exported paths are those of the index; links and copies lead to the images, and a second run keeps them."""
        index.export("v.npz")
        with np.load("v.npz", allow_pickle=False) as exported:
            names = [str(name) for name in exported["paths"]]
        self.check(len(names) == len(index), "exported names", len(names))
        groups = {self.chance.choice(["a", "~", "-", "..", "x/y", "\n"]): index.paths()}
        for copy in (False, True):
            where = f"linked{copy}"
            made = link_folders(where, groups, copy=copy)
            self.check(len(made.made) == len(index), "links", len(made.made), made.failures)
            for one in made.made:
                target = os.path.join(made.where, one.name)
                same = Path(target).read_bytes() == Path(one.image).read_bytes()
                self.check(same and (copy or os.path.samefile(target, one.image)), "a link or copy", one)
            kept = link_folders(where, groups, copy=copy)
            self.check(len(kept.kept) == len(index), "links are kept", len(kept.kept), kept.made[:1])
            shutil.rmtree(where)

    def remove(self, index: ImageIndex) -> None:
        """What is removed by another way to write its path is gone, and nothing else."""
        stored = {os.path.realpath(image.path): image.id for image in index.images()}
        inside = sorted(path for path in stored if path.startswith(f"{self.tree.root}/"))
        for real in self.chance.sample(inside, min(ASKED, len(inside))):
            path = self.chance.choice(forms(real, self.tree, self.home))
            if self.chance.random() < 0.3:
                # A file that is gone keeps its place in the index until the next `add`.
                path = self.chance.choice(
                    [real, os.path.relpath(real), f"alias/{os.path.relpath(real, self.tree.root)}"]
                )
                path = path if path.startswith("/") else f"./{path}"
                os.unlink(real)
            removed = [image.id for image in index.remove(path)]
            self.check(removed == [stored[real]], "remove", path, removed)


def deep(home: str, index: ImageIndex) -> list[str]:
    """Return what is wrong when folders are deeper than a path may be long."""
    before = os.open(".", os.O_RDONLY)
    os.mkdir(os.path.join(home, "deep"))
    os.chdir(os.path.join(home, "deep"))
    try:
        for _ in range(DEPTH):
            os.mkdir(DEEP)
            os.chdir(DEEP)
    finally:
        os.fchdir(before)
        os.close(before)
    reports = [index.add(os.path.join(home, "deep")) for _ in range(2)]
    wrong = [f"deep folders: {report}" for report in reports if (report.found, report.failed) != (1, 1)]
    removed = index.remove(os.path.join(home, "deep"))
    return wrong + [f"deep folders: {removed}"] * bool(removed)


def run(size: str, *, seed: int = 0) -> Figures:
    tried: Counter[str] = Counter()
    lost: list[str] = []
    before, environment = os.getcwd(), os.environ.get("HOME")
    places = [None, *([IN_MEMORY] if os.access(IN_MEMORY, os.W_OK) else [])]
    try:
        for number in range(ROUNDS[size]):
            with tempfile.TemporaryDirectory(prefix="imgindex-names-", dir=places[number % len(places)]) as folder:
                home = os.path.realpath(folder)
                os.chdir(home)
                os.environ["HOME"] = home
                one = Round(home, random.Random(f"{seed} {number}"))
                try:
                    one.run()
                except Exception as error:  # noqa: BLE001  an error that no caller expects is a broken promise too
                    one.lost.append(f"{type(error).__name__}: {ascii(str(error))[:500]}")
                tried += one.tried
                lost += [f"round {number}: {line}" for line in one.lost]
                os.chdir(before)
        with (
            tempfile.TemporaryDirectory(prefix="imgindex-names-") as folder,
            ImageIndex.create(os.path.join(folder, "i.imgindex"), encoder=GridMean()) as index,
        ):
            lost += deep(folder, index)
    finally:
        os.chdir(before)
        if environment is not None:
            os.environ["HOME"] = environment
    figures: dict[str, Any] = {"rounds": ROUNDS[size], "disks": len(places), **dict(sorted(tried.items()))}
    return {**figures, "lost": lost}


if __name__ == "__main__":
    main("names", run)
