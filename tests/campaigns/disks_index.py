"""An index on a disk with too little space, or a read-only one: runs commands on it, and checks what is left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from forking import ForkServer
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex
from imgindex.cli.app import app
from imgindex.errors import ImgindexError

EARLIER, LATER = range(6), range(6, 14)
TAKEN = "0.png"

Images = dict[str, tuple[int, np.ndarray]]


class Commands:
    """Runs command lines, each in a process of its own that need not start first."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="imgindex-disks-")
        self._server = ForkServer(Path(self._folder.name))

    def __call__(self, *arguments: str | Path, real: bool = False, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command line; real: with the real network in it; options: of a `Call`."""
        done = self._server.run(*arguments, folder=Path(self._folder.name), grid_mean=not real, **options)
        return subprocess.CompletedProcess(arguments, done.code, os.fsdecode(done.stdout), done.stderr)

    def close(self) -> None:
        self._server.close()
        self._folder.cleanup()


def commands() -> list[str]:
    """Return the names of the commands that there are."""
    return [one.name or "" for one in (*app.registered_commands, *app.registered_groups)]


def failed_badly(done: subprocess.CompletedProcess[str], *reasons: str) -> Iterator[str]:
    """Yield how a failure differs from one line on stderr that names the reason, and exit code 1."""
    if done.returncode != 1:
        yield f"exit code {done.returncode}"
    lines = done.stderr.splitlines()
    if len(lines) != 1 or not lines[0].startswith("imgindex: error: "):
        yield f"it printed {done.stderr!r}"
    elif reasons and not any(reason in lines[0] for reason in reasons):
        yield f"it does not name {' or '.join(reasons)!r}: {lines[0]!r}"


@dataclass(slots=True)
class Bench:
    """Pictures, an index of the earlier ones to begin each trial with, and the place where it is tried."""

    folder: Path
    place: Path  # the disk; the index is in it.imgindex there
    imgindex: Commands
    tried: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    base: Images = field(default_factory=dict)

    @property
    def index(self) -> Path:
        return self.place / "it.imgindex"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    def prepare(self) -> None:
        """Draw the pictures and make the index that each trial begins with; folders keep the same depth."""
        for number in EARLIER:
            draw(self.pictures / f"{number}.png", number)
        home = self.folder / "kept"
        home.mkdir()
        with ImageIndex.create(home / "it.imgindex", encoder=GridMean(batch_size=2)) as index:
            index.add([self.pictures])
        self.lay_out()
        # The pictures are not below the folder that holds this copy, so the paths that it returns are other ones.
        self.base = self.read()
        for number in LATER:
            draw(self.pictures / f"{number}.png", number)

    def lay_out(self) -> None:
        """Put a fresh copy of the index into the place, and nothing else."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.folder / "kept" / "it.imgindex", self.index)

    def read(self) -> Images:
        """Return the present images of the index. Raises AssertionError where `verify` finds a problem."""
        with ImageIndex.open(self.index) as index:
            report = index.verify(full=True)
            assert report.ok, report.problems
            images = zip(index.images(), index.vectors(), strict=True)
            return {os.path.basename(image.path): (image.id, vector) for image, vector in images}

    def command(self, name: str) -> list[str]:
        """Return the arguments of a command that writes."""
        arguments = {
            "add": [self.pictures],
            "remove": [self.pictures / TAKEN],
            "export": ["--out", self.place / "vectors.npz"],
            "cluster": ["-k", "2", "--out", self.place / "labels.csv"],
        }
        return [name, *map(str, arguments.get(name, [])), "--index", str(self.index)]

    def trial(self, kind: str, name: str, narrow: Callable[[], None], widen: Callable[[], None], **options: Any) -> int:
        """Run a command where there is too little space, then again where there is enough; return the first exit code.

        options: reasons, of which a failure must name one; limit of files, for the first process alone.
        """
        reasons = options.get("reasons", ())
        self.lay_out()
        narrow()
        done = self.imgindex(*self.command(name), file_limit=options.get("limit", 0))
        self.tried[f"{kind}: {name} {'failed' if done.returncode else 'fitted'}"] += 1
        wrong = list(failed_badly(done, *reasons)) if done.returncode else []
        wrong += self.readable(f"{kind}: {name}")
        widen()
        wrong += self.sound(name)
        again = self.imgindex(*self.command(name))
        # A second `remove` fails if the first one succeeded: the image is no longer in the index.
        if again.returncode and not (name == "remove" and done.returncode == 0):
            wrong.append(f"afterwards: {again.stderr.strip()}")
        wrong += self.finished(name)
        self.lost += [f"{kind}, {name}: {line}" for line in wrong]
        return done.returncode

    def readable(self, kind: str) -> Iterator[str]:
        """Yield errors that are not reported properly when the index is read while there is too little space."""
        try:
            self.read()
        except (OSError, ImgindexError, sqlite3.Error) as error:
            self.tried[f"{kind}, then not readable: {error}"] += 1
        except Exception as error:  # noqa: BLE001  whatever it raises is what this looks for
            yield f"{type(error).__name__} in reading: {error}"

    def sound(self, name: str) -> Iterator[str]:
        """Yield what is wrong with the index after a command failed."""
        try:
            present = self.read()
        except Exception as error:  # noqa: BLE001  whatever it raises is what this looks for
            yield f"{type(error).__name__}: {error}"
            return
        for picture, (id, vector) in self.base.items():
            now = present.get(picture)
            if now is None and (name, picture) == ("remove", TAKEN):
                continue
            if now is None or now[0] != id or not np.array_equal(now[1], vector):
                yield f"{picture} is not what it was"
        if left := [path.name for path in self.place.iterdir() if path.name.startswith(".imgindex-")]:
            yield f"it left {left}"

    def finished(self, name: str) -> Iterator[str]:
        """Yield what the command, run again, did not do."""
        present = self.read()
        names = set(self.base) - ({TAKEN} if name == "remove" else set())
        if name == "add":
            names = {path.name for path in self.pictures.iterdir()}
        if set(present) != names:
            yield f"it has {sorted(present)}"
        for out in ("vectors.npz", "labels.csv"):
            if out in " ".join(self.command(name)) and not (self.place / out).stat().st_size:
                yield f"{out} is empty"


def nothing() -> None:
    """Leave all as it is."""
