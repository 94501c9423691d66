"""Opens an index that a crash left, and yields the promises that do not hold."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grid_mean import GridMean, replace_encoder
from PIL import Image as Picture
from power_disk import Image

from imgindex import ImageIndex
from imgindex.errors import IndexNotFound

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
Images = dict[str, tuple[int, str]]  # name of the file → id, sha256


@dataclass(frozen=True, slots=True)
class State:
    """What the index had acknowledged at a moment: the present images, and the ids that are gone for good."""

    step: str
    present: Images
    removed: frozenset[int]


NOTHING = State("", {}, frozenset())


def read_journal(path: Path, before: State = NOTHING) -> list[State]:
    """Return the states that a run noted after `before`, in their order; a line that is not whole was not noted."""
    lines = path.read_text(encoding="ascii").split("\n")[:-1] if path.exists() else []
    states = []
    for line in map(json.loads, lines):
        present = {name: (id, sha) for name, (id, sha) in line["present"].items()}
        states.append(State(line["step"], present, before.removed | set(line["removed"])))
    return states


class Ground:
    """A folder in memory with the pictures of a run beside the place where indexes are laid out, one by one."""

    def __init__(self, pictures: Path, states: list[State], vectors: dict[str, np.ndarray]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="imgindex-power-", dir=MEMORY))
        self.pictures = self.folder / "pictures"
        self.index = self.folder / "it.imgindex"
        self.states, self.vectors = states, vectors
        shutil.copytree(pictures, self.pictures)  # with their times
        self.truth = {path.name for path in self.pictures.iterdir() if is_picture(path)}
        self.broken = {path.name for path in self.pictures.iterdir()} - self.truth

    def close(self) -> None:
        shutil.rmtree(self.folder)

    def lay_out(self, image: Image) -> None:
        """Make the index folder equal to an image."""
        shutil.rmtree(self.index, ignore_errors=True)
        lay_out(self.index, image)

    def check(self, noted: int) -> list[str]:
        """Yield what is wrong with the index here, when the first `noted` states were acknowledged."""
        try:
            return list(self._check(noted))
        except Exception as error:  # noqa: BLE001  whatever it raises is what this looks for
            return [f"{type(error).__name__}: {error}"]

    def _check(self, noted: int) -> Iterator[str]:
        before = self.states[noted - 1] if noted else NOTHING
        # An `add` that an error ends commits what it has: also where it could not note that nothing was new yet.
        after = next((state for state in self.states[noted:] if state.present != before.present), before)
        try:
            index = ImageIndex.open(self.index)
        except IndexNotFound:
            if noted:
                yield "the index is gone"
                return
            index = ImageIndex.create(self.index, encoder=GridMean())
        with index:
            present = yield from self._sound(index, "when opened")
            for name in before.present.keys() | after.present.keys() | present.keys():
                if present.get(name) not in (before.present.get(name), after.present.get(name)):
                    was = f"{before.present.get(name)}, then {after.present.get(name)}"
                    yield f"{name}: {present.get(name)} is in the index, acknowledged was {was}"
            replace_encoder(index, GridMean(batch_size=3))
            index.add([self.pictures])
            yield from self._finished(index, noted, present)

    def _sound(self, index: ImageIndex, when: str) -> Iterator[str]:
        """Check that all is sound and that each image has its own vector; return the present images."""
        report = index.verify(full=True)
        if not report.ok:
            yield f"{when}: verify finds {report.problems}"
        images, vectors = list(index.images()), index.vectors()
        for image, vector in zip(images, vectors, strict=True):
            if not np.allclose(vector, self.vectors[image.sha256], atol=1e-6):
                yield f"{when}: {image.path} has the vector of another picture"
        return {os.path.basename(image.path): (image.id, image.sha256) for image in images}

    def _finished(self, index: ImageIndex, noted: int, opened: Images) -> Iterator[str]:
        """Check what the next `add` has made of it: the folder's truth, under ids that were not used before."""
        present = yield from self._sound(index, "after the next add")
        truth = {name: sha for name, (_, sha) in self.states[-1].present.items()} | self._hashes()
        if {name: sha for name, (_, sha) in present.items()} != {name: truth[name] for name in self.truth}:
            yield f"after the next add it has {sorted(present)}, and there are {sorted(self.truth)}"
        if {os.path.basename(failure.path) for failure in index.failures()} != self.broken:
            yield "after the next add the ledger does not have the broken files"
        if len({id for id, _ in present.values()}) != len(present):
            yield "two images have one id"
        owners: dict[int, set[Any]] = {}
        for state in (*(one.present for one in self.states[:noted]), opened):
            for name, (id, sha) in state.items():
                owners.setdefault(id, set()).update((name, sha))
        gone = self.states[noted - 1].removed if noted else frozenset()
        for name, (id, sha) in present.items():
            if id in gone or not owners.get(id, {name}) & {name, sha}:
                yield f"the id {id} of another image was given to {name}"
        answers = index.answers([self.pictures / name for name in present], n=1, include_self=True)
        for name, answer in zip(present, answers, strict=True):
            if not answer.matches or answer.matches[0].distance > 1e-6:
                yield f"{name} is not found by itself: {answer}"

    def _hashes(self) -> dict[str, str]:
        import hashlib

        return {name: hashlib.sha256((self.pictures / name).read_bytes()).hexdigest() for name in self.truth}


def lay_out(folder: Path, image: Image) -> None:
    for name, content in image.items():
        if content is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)


def is_picture(path: Path) -> bool:
    try:
        with Picture.open(path) as picture:
            picture.load()
    except OSError:
        return False
    return True
