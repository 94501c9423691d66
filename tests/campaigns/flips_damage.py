"""Every damage to the files of an index except single bytes: cut, longer, swapped, outdated, or not regular files."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flips_index import HOME, State, state_of

PAGE, ROW, HEADER = 4096, 48, 4096
LOG = ("catalogue.db-wal", "catalogue.db-shm")
# A whole, sound log that was never this catalogue's.
FOREIGN_LOG = "log of another catalogue"
# What a name can have in the place of a regular file; `behind a link` is the right content, reached by a link.
STRANGE = ("fifo", "folder", "dangling link", "loop", "link to /dev/zero", "behind a link")


@dataclass(frozen=True, slots=True)
class Damage:
    """Of which index (its states), what kind, and what each of these names holds then; None: nothing."""

    base: str
    kind: str
    label: str
    patch: dict[str, bytes | str | None]

    @property
    def of_the_log(self) -> bool:
        return not set(self.patch).isdisjoint(LOG)


class Copy:
    """A copy of the pictures and of one index, in memory, that is damaged and restored."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / HOME

    def become(self, state: State) -> None:
        """Let the index consist of exactly these files."""
        if os.path.lexists(self.home):
            shutil.rmtree(self.home)
        self.home.mkdir()
        (self.home / "segments").mkdir()
        for name, content in state.items():
            path = self.home / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)

    def tidy(self, state: State) -> None:
        """Take away what reading has left: files of no content, and SQLite's shared memory."""
        for name in LOG:
            if name not in state:
                (self.home / name).unlink(missing_ok=True)

    def differs(self, state: State, *, but: tuple[str, ...]) -> bool:
        now = state_of(self.home)
        return any(now.get(name) != state.get(name) for name in {*now, *state} - {*but})

    def apply(self, damage: Damage) -> None:
        for name, content in damage.patch.items():
            path = self.home / name
            before = path.read_bytes() if path.is_file() else b""
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            if isinstance(content, bytes):
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)
            elif content is not None:
                path.parent.mkdir(exist_ok=True)
                self._strange(path, content, before)

    def _strange(self, path: Path, what: str, before: bytes) -> None:
        if what == "fifo":
            os.mkfifo(path)
        elif what == "folder":
            path.mkdir()
            (path / "something").write_text("in it")
        elif what == "behind a link":
            behind = self.folder / "behind"
            behind.write_bytes(before)
            path.symlink_to(behind)
        else:
            path.symlink_to({"loop": path.name, "link to /dev/zero": "/dev/zero"}.get(what, "nowhere"))


def damages(states: dict[str, list[State]], size: str, seed: int) -> Iterator[Damage]:
    """Every damage but single bytes; the same ones for the same size and seed."""
    rng = random.Random(seed)
    for base in ("now", "log"):
        state = states[base][-1]
        for name, content in state.items():
            few = name.startswith("catalogue.db-shm")
            yield from _lengths(base, name, content, (3 if size == "ci" else 25 if few else 500), rng)
            yield from _pages(base, name, content, (3 if size == "ci" else 25 if few else 10**6), rng)
        yield from _rows(base, state, 3 if size == "ci" else 10**6, rng)
        yield from _names(base, state)
        for other in ("other", "other log", "foreign", "old", "log", "now"):
            if other != base:
                for number, stranger in enumerate(states[other]):
                    yield from _files_of(base, state, other, stranger, number)
    yield from _files_of("old", states["old"][-1], "now", states["now"][-1], 0)


def _lengths(base: str, name: str, content: bytes, most: int, rng: random.Random) -> Iterator[Damage]:
    step = max(1, len(content) // max(1, most))
    for length in sorted({*range(0, len(content), step), *range(0, len(content), PAGE)} - {len(content)}):
        yield Damage(base, "cut short", f"{name} cut to {length} bytes", {name: content[:length]})
    for what, more in {
        "a zero": b"\0",
        "a page of zeros": bytes(PAGE),
        "garbage": rng.randbytes(7),
        "a page of garbage": rng.randbytes(PAGE),
        "itself": content,
        "its last page": content[-PAGE:],
    }.items():
        if more:
            yield Damage(base, "made longer", f"{name} and {what}", {name: content + more})


def _pages(base: str, name: str, content: bytes, most: int, rng: random.Random) -> Iterator[Damage]:
    starts = range(0, len(content), PAGE)
    for start in starts:
        length = len(content[start : start + PAGE])
        for what, page in {"zeros": bytes(length), "ones": b"\xff" * length, "garbage": rng.randbytes(length)}.items():
            changed = content[:start] + page + content[start + PAGE :]
            yield Damage(base, "page overwritten", f"{name}: {what} at {start}", {name: changed})
    pairs = [(one, two) for one in starts for two in starts if one < two]
    for one, two in rng.sample(pairs, min(most, len(pairs))):
        pages = [content[start : start + PAGE] for start in starts]
        i, j = one // PAGE, two // PAGE
        pages[i], pages[j] = pages[j], pages[i]
        yield Damage(base, "pages swapped", f"{name}: pages {i} and {j}", {name: b"".join(pages)})
        pages[i] = pages[j]
        yield Damage(base, "page doubled", f"{name}: page {i} over {j}", {name: b"".join(pages)})


def _rows(base: str, state: State, most: int, rng: random.Random) -> Iterator[Damage]:
    places = [
        (name, start)
        for name in state
        if name.endswith(".vec")
        for start in range(HEADER, len(state[name]) - ROW + 1, ROW)
    ]
    pairs = [(one, two) for one in places for two in places if one < two]
    for one, two in rng.sample(pairs, min(most, len(pairs))):
        first, second = (state[name][start : start + ROW] for name, start in (one, two))
        for kind, contents in {"rows swapped": (second, first), "row doubled": (first, first)}.items():
            patch = {name: bytearray(state[name]) for name in {one[0], two[0]}}
            for (name, start), row in zip((one, two), contents, strict=True):
                patch[name][start : start + ROW] = row
            yield Damage(base, kind, f"{one} and {two}", {name: bytes(data) for name, data in patch.items()})
    for name, start in places:
        changed = state[name][:start] + bytes(ROW) + state[name][start + ROW :]
        yield Damage(base, "row zeroed", f"{name}: {start}", {name: changed})


def _names(base: str, state: State) -> Iterator[Damage]:
    """Files and folders that are gone, or are something else, or have each other's names, or are too many."""
    folders = sorted({os.path.dirname(name) for name in state} - {""})
    for name in (*state, *folders, "lock"):
        yield Damage(base, "deleted", name, {name: None})
        for what in STRANGE if name not in folders else STRANGE[:-1]:
            yield Damage(base, "something else in its place", f"{name}: {what}", {name: what})
    names = sorted(state)
    for one in names:
        for two in names:
            if one < two:
                yield Damage(base, "files swapped", f"{one} and {two}", {one: state[two], two: state[one]})
    for name in ("catalogue.db.new", "segments/000009.vec", "segments/x", "search/x.faiss", "thumbnails/2.jpg", "x"):
        for what in (b"", b"garbage" * 1000, state["segments/000001.vec"]):
            yield Damage(base, "a file too many", f"{name} of {len(what)} bytes", {name: what})
        yield Damage(base, "a file too many", f"{name}, a fifo", {name: "fifo"})
    for what in (b"", b"garbage" * 1000, bytes(5000)):
        yield Damage(base, "a file too many", f"a journal of {len(what)} bytes", {"catalogue.db-journal": what})


def _files_of(base: str, state: State, other: str, stranger: State, number: int) -> Iterator[Damage]:
    """Single files, and all segments, of another index or of another time in the place of its own."""
    kind = "file of another time" if {base, other} <= {"now", "old", "log"} else "file of another index"
    for name in sorted({*state, *stranger}):
        if state.get(name) != stranger.get(name):
            foreign = name == LOG[0] and stranger.get(name) and state["catalogue.db"] != stranger["catalogue.db"]
            label = f"{name} of {other} {number}"
            yield Damage(base, FOREIGN_LOG if foreign else kind, label, {name: stranger.get(name)})
    vectors = {name: stranger.get(name) for name in {*state, *stranger} if name.endswith(".vec")}
    if any(state.get(name) != content for name, content in vectors.items()):
        yield Damage(base, kind, f"all segments of {other} {number}", dict(vectors))
