"""Every step that the store does on its disk is stopped before, in the middle and after, fails, and loses its power.

The store changes its disk through one seam, `imgindex.storage.durable.disk`. Each operation is run once to count its
steps. What a death or a power loss would leave at each of them is then put on a disk and opened there; and each step is
made to fail, once and for ever, in a run of its own. Whatever happens: what was acknowledged is there with its own
vector, nothing is there that was never committed, no id is given twice, and the same operation done again finishes.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from campaign import Figures, main
from grid_mean import GridMean, replace_encoder
from pictures import draw
from smoothing_reference import all_averaged
from steps_disk import Dead, Died, Failing, Files, Point, Recorder, contents, put
from steps_scenes import BROKEN, SCENES, Scene, State, World, digest, expected_vector, state

from imgindex import ImageIndex
from imgindex.errors import ImgindexError, IndexDamaged, IndexNotFound
from imgindex.search.smoothed import smoothed_rows
from imgindex.storage import derived
from imgindex.storage.lock import WriteLock
from imgindex.storage.segments import HEADER_SIZE
from imgindex.types import Progress

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
TOLD = (OSError, ImgindexError, sqlite3.Error)
CATALOGUE = {"/", "lock", "catalogue.db", "catalogue.db-wal", "catalogue.db-shm", "catalogue.db.crc32", "segments/"}


class Lost(Exception):
    """A promise that did not hold."""


@dataclass(frozen=True)
class Try:
    """One way to disturb an operation."""

    kind: str
    way: str
    check: Callable[[], None]

    @property
    def sort(self) -> str:
        """The way, without its particulars."""
        if self.way.startswith(("death", "power")):
            return self.way.split(",")[0]
        return "failure for ever" if self.way.endswith("for ever") else "failure"


def hold(promise: bool, words: str) -> None:
    if not promise:
        raise Lost(words)


class Stage:
    """One operation with everything that is known of it: what was there, what it acknowledges, what comes out."""

    def __init__(self, scene: Scene, root: Path, seed: int) -> None:
        self.scene, self.world = scene, World(root)
        self.vectors = _known_vectors(root)
        scene.make(self.world)
        self.base = contents(self.world.index)
        self.vectors |= {
            digest(path): expected_vector(path)
            for path in self.world.pictures.rglob("*")
            if path.is_file() and not path.read_bytes().startswith((BROKEN, b"this"))
        }
        self.rows, self.highest = self._all_rows()
        self.before: State = {} if scene.damaged or scene.creates else self._state()
        self.settled = set() if scene.damaged or scene.creates else self._settled()
        self.acknowledged: list[State] = []
        self.recorder = Recorder(self.world.index, seed)
        with put(self.recorder):
            self._run(None, self._note)
        self.recorder.end()
        self.after, self.ledger = self._state(), self._ledger()
        self.final: State = self.after
        self._final({})

    def _run(self, index: ImageIndex | None, on_progress: Callable[[Progress], None]) -> None:
        self.scene.run(self.world, index, on_progress)

    def _note(self, progress: Progress) -> None:
        """Keep what a reader sees at the moment that the run reports progress."""
        if progress.stage == "embed" and progress.done:
            self.acknowledged.append(self._state())
            self.recorder.acknowledged += 1
            new = len(self._settled() - self.settled)
            hold(new >= progress.done, f"{progress.done} images were acknowledged, and {new} are there")

    def _settled(self) -> set[str]:
        """The files that the index has as they are now, or has a failure for."""
        with self.world.opened() as index:
            now = {path: (present.sha256, present.mtime_ns) for path, present in state(index).items()}
            failed = {os.path.relpath(one.path, self.world.root): ("", one.mtime_ns) for one in index.failures()}
        settled = set()
        for path in self.world.pictures.rglob("*.*"):
            name, sha256, mtime_ns = os.path.relpath(path, self.world.root), digest(path), path.stat().st_mtime_ns
            if (now if sha256 in self.vectors else failed).get(name) in ((sha256, mtime_ns), ("", mtime_ns)):
                settled.add(name)
        return settled

    def _state(self) -> State:
        with self.world.opened() as index:
            return state(index)

    def _ledger(self) -> set[str]:
        with self.world.opened() as index:
            return {os.path.relpath(failure.path, self.world.root) for failure in index.failures()}

    def _all_rows(self) -> tuple[set[int], int]:
        """Every id that was ever given, as far as one can know, and the highest one."""
        if not self.base:
            return set(), 0
        copy, ids, highest = self.world.root / "looked-at", set(), 0
        _lay(copy, self.base)
        with closing(sqlite3.connect(copy / "catalogue.db")) as connection, suppress(sqlite3.DatabaseError):
            ids = {id for (id,) in connection.execute("select id from images")}
            highest = max((seq for (seq,) in connection.execute("select seq from sqlite_sequence")), default=0)
        shutil.rmtree(copy)
        return ids, highest

    # the ways to disturb it

    def tries(self) -> Iterator[Try]:
        seen = set()
        for point in self.recorder.points:
            key = (point.acknowledged, point.kind == "end", tuple(sorted(point.files.items())))
            if key not in seen:  # the same disk again teaches nothing
                seen.add(key)
                yield Try(point.kind, point.way, lambda point=point: self.ended(point))  # type: ignore[misc]
        for at, kind in enumerate(self.recorder.kinds):
            yield Try(kind, "death in the process", lambda at=at: self.died(at))  # type: ignore[misc]
            for number in ERRORS:
                for for_ever in (False, True):
                    for short in (False, True) if kind == "write" else (False,):
                        name = errno.errorcode[number] + " after a part" * short + " for ever" * for_ever
                        disk = (at, number, for_ever, short)
                        yield Try(kind, name, lambda disk=disk: self.failed(*disk))  # type: ignore[misc]

    def ended(self, point: Point) -> None:
        """The computer or the process ended there; another process does the operation again."""
        _lay(self.world.index, point.files)
        seen = self._look(self.acknowledged[: point.acknowledged], done=point.kind == "end")
        self.scene.again(self.world)
        self._final(seen)

    def died(self, at: int) -> None:
        _lay(self.world.index, self.base)
        with suppress(Died), put(Dead(at)):
            self._run(None, lambda progress: None)
            raise Lost("it went on though its disk was gone")
        self._is_free()
        seen = self._look([], done=False)
        self.scene.again(self.world)
        self._final(seen)

    def failed(self, at: int, number: int, for_ever: bool, short: bool) -> None:
        """The step failed; the same process goes on, with the same object and a new one."""
        _lay(self.world.index, self.base)
        acknowledged: list[State] = []

        def note(progress: Progress) -> None:
            if progress.stage == "embed" and progress.done:
                acknowledged.append(self._state())

        disk = Failing(at, number, for_ever=for_ever, short=short)
        has_index = not self.scene.damaged and not self.scene.creates
        index = ImageIndex.open(self.world.index) if has_index else None
        try:
            if index is not None:
                replace_encoder(index, GridMean(batch_size=2))
            failed = False
            with put(disk):
                try:
                    self._run(index, note)
                except TOLD as error:
                    failed = True
                    hold(bool(str(error)), f"it failed without a message: {error!r}")
            hold(disk.failed > 0, "the step was not reached")
            self._is_free()
            seen = {} if self.scene.damaged and failed else self._look(acknowledged, done=not failed)
            if index is not None:
                hold(state(index) == seen, "the same object returns something else than a new one")
            self.scene.again(self.world, index if at % 2 else None)
            self._final(seen)
            if index is not None:
                hold(state(index) == self.final, "the same object returns something else than a new one, at last")
        finally:
            if index is not None:
                index.close()

    def _is_free(self) -> None:
        if self.world.index.is_dir():
            with WriteLock(os.fspath(self.world.index / "lock")):
                pass

    # the promises

    def _look(self, acknowledged: list[State], *, done: bool) -> State:
        """Look at what is left, as a reader does."""
        try:
            with self.world.opened() as index:
                now = state(index)
                self._vectors_are_right(index, now)
                problems = index.verify(full=True).problems
        except IndexNotFound:
            hold(self.scene.creates and not done, "there is no index any more")
            return {}
        except IndexDamaged as error:
            hold(self.scene.damaged and not done, f"the index is damaged: {error}")
            return {}
        hold(self.scene.damaged or not problems, f"verify finds {problems}")
        if done:
            hold(_contents(now) == _contents(self.after), "it returned, and what it did is not there")
        for path, present in now.items():
            committed = {one[path].sha256 for one in (self.before, *self.acknowledged, self.after) if path in one}
            hold(self.scene.damaged or present.sha256 in committed, f"{path} was never committed like that")
            hold(path not in self.before or self.before[path].id == present.id, f"{path} has another id")
        if not self.scene.damaged:
            ids = {present.id: present.sha256 for present in now.values()}
            for one in (self.before, *acknowledged):
                for path, present in one.items():
                    if _contents(self.after).get(path) == present.sha256:
                        hold(now.get(path, present).sha256 == present.sha256 and path in now, f"{path} is lost")
                    elif any(kept.id == present.id for kept in self.after.values()):
                        hold(present.id in ids, f"the image {present.id} ({path}) is lost")
        return now

    def _final(self, seen: State) -> None:
        """Look at what there is when the operation was done again: its whole work, and nothing else."""
        with self.world.opened() as index:
            now = self.final = state(index)
            self._vectors_are_right(index, now)
            hold(_contents(now) == _contents(self.after), f"it is not finished: {_difference(now, self.after)}")
            hold(self._ledger() == self.ledger, "the ledger is another one")
            problems = index.verify(full=True).problems
            hold(not problems, f"verify finds {problems} at last")
            self._ids_are_right(now, seen)
            self._files_are_known(index)
            if self.scene.rows < len(now):
                self._search_is_right(index)
            if self.scene.averages:
                self._averages_are_right(index)

    def _ids_are_right(self, now: State, seen: State) -> None:
        hold(len({present.id for present in now.values()}) == len(now), "two images have one id")
        for present in now.values():
            hold(present.id in self.rows or present.id > self.highest, f"the id {present.id} was given again")
        for path, present in (*self.before.items(), *seen.items()):
            for other, kept in now.items():
                same = kept.id == present.id
                hold(not same or path == other or present.sha256 == kept.sha256, f"{other} has the id of {path}")
                hold(same or path != other, f"{path} lost its id")

    def _vectors_are_right(self, index: ImageIndex, now: State) -> None:
        for present, vector in zip(now.values(), index.vectors(), strict=True):
            hold(np.array_equal(vector, self.vectors[present.sha256]), f"the image {present.id} has another's vector")

    def _files_are_known(self, index: ImageIndex) -> None:
        rows, store = index._store.catalogue.segments(), index._store.segments
        wanted = {f"segments/{os.path.basename(store.path(number))}": count for number, count in rows.items()}
        search = {"search/"} | {f"search/{file.name}" for file in derived.all_recorded(index._store.catalogue)}
        there = contents(self.world.index)
        strange = there.keys() - wanted.keys() - CATALOGUE - search
        hold(not strange, f"unknown files are left: {strange}")
        for name, count in wanted.items():
            hold(len(there[name]) == HEADER_SIZE + count * store.row_size, f"{name} has not the size of its rows")

    def _search_is_right(self, index: ImageIndex) -> None:
        files = derived.all_recorded(index._store.catalogue)
        hold(len(files) == 1, f"there are {len(files)} search indexes")
        file = files[0]
        where = os.path.join(index.path, derived.FOLDER, file.name)
        with derived.opened(where, file.sha256, file.size) as opened:
            hold(opened is not None, "the search index is not what was written")
        vectors, first = index.vectors(), index.images().__next__().path
        true = np.sort(np.linalg.norm(vectors.astype(np.float64) - vectors[0], axis=1))[:4]
        found = [match.distance for match in index.similar(first, n=4, include_self=True)]
        hold(np.allclose(found, true, atol=1e-6), "the search index finds others than the nearest")

    def _averages_are_right(self, index: ImageIndex) -> None:
        true = all_averaged(index.vectors(), index.ids(), unit=False)
        hold(np.allclose(smoothed_rows(index._store).vectors, true, atol=1e-6), "vectors have other averages")
        for file in derived.all_recorded(index._store.catalogue):
            where = os.path.join(index.path, derived.FOLDER, file.name)
            with derived.opened(where, file.sha256, file.size) as opened:
                hold(opened is not None, "the averages are not what was written")
        kept = index.status()["smoothed"]
        hold(kept is None or kept["newer"] == kept["gone"] == 0, f"the averages are stale: {kept}")
        hold(kept is not None or self.scene.reads, "the averages are gone")


def _contents(now: State) -> dict[str, str]:
    return {path: present.sha256 for path, present in now.items()}


def _difference(now: State, wanted: State) -> str:
    return f"missing {sorted(wanted.keys() - now.keys())}, too many {sorted(now.keys() - wanted.keys())}"


def _known_vectors(root: Path) -> dict[str, np.ndarray]:
    """The vectors of all pictures that are drawn anywhere, by their sha256."""
    known = {}
    for number in range(100):
        path = draw(root / "drawn.png", number)
        known[digest(path)] = expected_vector(path)
    path.unlink()
    return known


def _lay(folder: Path, files: Files) -> None:
    """Put files on the disk, in the place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in sorted(files):
        if name.endswith("/"):
            (folder / name.strip("/")).mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        if not name.endswith("/"):
            (folder / name).write_bytes(data)


def _chosen(tries: list[Try], size: str, chance: random.Random) -> list[Try]:
    """All, or so many that each kind of step is among them, and each way to disturb one."""
    if size == "full":
        return tries
    chance.shuffle(tries)
    chosen, kinds, sorts = [], set(), set()
    # Those first that are new in both respects: the fewest that have everything.
    for fresh in (all, any):
        for one in tries:
            if fresh((one.kind not in kinds, one.sort not in sorts)):
                chosen.append(one)
                kinds.add(one.kind)
                sorts.add(one.sort)
    return chosen


def run(size: str, *, seed: int = 0) -> Figures:
    """Disturb every operation at every step; `ci` takes of each operation each kind of step and each way once."""
    chance, lost, operations = random.Random(seed), [], {}
    for scene in SCENES:
        root = Path(tempfile.mkdtemp(prefix="imgindex-steps-", dir=MEMORY))
        try:
            with scene.in_force():
                stage = Stage(scene, root / "world", seed)
                lost += [f"{scene.name}: {what}" for what in stage.recorder.strange]
                tries = list(stage.tries())
                possible, chosen = len(tries), _chosen(tries, size, chance)
                for one in chosen:
                    try:
                        one.check()
                    except (Exception, Died) as error:  # noqa: BLE001  whatever it is, it is a find
                        lost.append(f"{scene.name}, {one.kind}, {one.way}: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(root, ignore_errors=True)
        operations[scene.name] = {
            "steps": len(stage.recorder.kinds),
            "possible": possible,
            "tried": len(chosen),
            "kinds": dict(sorted(Counter(one.kind for one in chosen).items())),
            "ways": dict(sorted(Counter(one.sort for one in chosen).items())),
        }
    return {
        "operations": len(operations),
        "steps": sum(one["steps"] for one in operations.values()),
        "tried": sum(one["tried"] for one in operations.values()),
        "ways": dict(sum((Counter(one["ways"]) for one in operations.values()), Counter())),
        "by operation": operations,
        "lost": lost,
    }


if __name__ == "__main__":
    main("steps", run)
