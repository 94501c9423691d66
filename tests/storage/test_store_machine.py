"""A machine that does to a folder and its index whatever comes to its mind, beside a dict that knows the truth."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from add_checks import observe_opened
from grid_mean import GridMean, replace_encoder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from PIL import Image

from imgindex import ImageIndex
from imgindex.errors import PathNotFound
from imgindex.results import AddReport
from imgindex.storage import durable
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.ledger import Ledger

# A disk in memory syncs at once; the machine's deaths are those of a process, not of a computer.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
FOLDERS = ("a", "b", "b/c")
NAMES = ("0.png", "it's\n\udcff.png")
PATHS = tuple(f"{folder}/{name}" for folder in FOLDERS for name in NAMES)
PICTURES = range(4)
BROKEN = range(100, 102)

paths = st.sampled_from(PATHS)
contents = st.sampled_from([*PICTURES, *BROKEN])


def colours(picture: int) -> np.ndarray:
    """The colours of a picture's four quarters: (2, 2, 3)."""
    return np.random.default_rng(picture).integers(0, 256, (2, 2, 3), dtype=np.uint8)


def file_of(content: int) -> bytes:
    if content in BROKEN:
        return b"this is no picture " * content
    out = io.BytesIO()
    Image.fromarray(colours(content).repeat(16, axis=0).repeat(16, axis=1)).save(out, "PNG")
    return out.getvalue()


FILES = {content: file_of(content) for content in (*PICTURES, *BROKEN)}
CONTENT_OF = {hashlib.sha256(data).hexdigest(): content for content, data in FILES.items()}


def vector_of(content: int) -> np.ndarray:
    return colours(content).reshape(12).astype(np.float32) / 255


class Died(Exception):
    """What a run dies of here."""


@dataclass(frozen=True)
class File:
    """A file of the model: what it holds and when it was written."""

    content: int
    mtime_ns: int

    @property
    def readable(self) -> bool:
        return self.content in PICTURES


@dataclass(frozen=True)
class Row:
    """A present image: its id and the content that its vector was made from."""

    id: int
    content: int


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="imgindex-machine-", dir=MEMORY))
        self.root = self.folder / "pictures"
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.encoder = GridMean(batch_size=2)
        self.index = ImageIndex.create(self.folder / "it.imgindex", encoder=GridMean())
        replace_encoder(self.index, self.encoder)
        self.files: dict[str, File] = {}
        self.history: list[tuple[str, File]] = []
        self.clock = 1_600_000_000 * 10**9
        self.highest_id = 0
        self.opened: list[str] = []
        self.patch = pytest.MonkeyPatch()
        observe_opened(self.patch, self.opened.append)

    def teardown(self) -> None:
        self.patch.undo()
        self.index.close()
        shutil.rmtree(self.folder)

    # what happens to files

    def _write(self, path: str, file: File) -> None:
        target = self.root / path
        target.write_bytes(FILES[file.content])
        os.utime(target, ns=(file.mtime_ns, file.mtime_ns))
        self.files[path] = file
        self.history.append((path, file))

    def _now(self) -> int:
        self.clock += 1
        return self.clock

    @rule(path=paths, content=contents)
    def a_file_is_written(self, path: str, content: int) -> None:
        self._write(path, File(content, self._now()))

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def a_file_is_touched(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        self._write(path, File(self.files[path].content, self._now()))

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def a_file_is_deleted(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / path).unlink()
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(data=st.data(), onto=paths)
    def a_file_is_renamed(self, data: st.DataObject, onto: str) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        os.replace(self.root / path, self.root / onto)
        self.files[onto] = self.files.pop(path)
        self.history.append((onto, self.files[onto]))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), onto=paths, times_kept=st.booleans())
    def a_file_is_copied(self, data: st.DataObject, onto: str, times_kept: bool) -> None:
        file = self.files[data.draw(st.sampled_from(sorted(self.files)))]
        self._write(onto, file if times_kept else File(file.content, self._now()))

    @precondition(lambda self: self.history)
    @rule(data=st.data())
    def a_file_is_restored_as_it_once_was(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted({path for path, _ in self.history})))
        versions = [file for old, file in self.history if old == path]
        self._write(path, data.draw(st.sampled_from(versions[-3:])))

    @rule()
    def two_folders_change_places(self) -> None:
        for here, there in (("a", "spare"), ("b/c", "a"), ("spare", "b/c")):
            os.rename(self.root / here, self.root / there)
        spare_names = {"a/": "b/c/", "b/c/": "a/"}
        moved = {}
        for path, file in self.files.items():
            prefix = path[: path.rindex("/") + 1]
            moved[spare_names.get(prefix, prefix) + path[len(prefix) :]] = file
        self.files = moved
        self.history += moved.items()

    # what happens to the index

    def _present(self) -> dict[str, Row]:
        prefix = os.fspath(self.root) + "/"
        return {
            image.path.removeprefix(prefix): Row(image.id, CONTENT_OF[image.sha256]) for image in self.index.images()
        }

    def _rows(self) -> dict[str, tuple[int, int]]:
        """Every row of the table of images, the missing ones too: path → (id, content)."""
        connection = sqlite3.connect(self.folder / "it.imgindex" / "catalogue.db")
        with contextlib.closing(connection):
            rows = connection.execute("select path, id, sha256 from images").fetchall()
        return {
            os.fsdecode(path).removeprefix("pictures/"): (id, CONTENT_OF[sha256.hex()]) for path, id, sha256 in rows
        }

    def _ledger(self) -> dict[str, str]:
        prefix = os.fspath(self.root) + "/"
        return {failure.path.removeprefix(prefix): failure.stage for failure in self.index.failures()}

    def _add(self, **options: Any) -> AddReport:
        return self.index.add([self.root], **options)

    @rule(path=paths, content=contents)
    def a_file_is_written_and_added(self, path: str, content: int) -> None:
        self.a_file_is_written(path, content)
        self.add(retry=False)

    @rule(retry=st.booleans())
    def add(self, retry: bool) -> None:
        before, rows, embedded = self._present(), self._rows(), self.encoder.embedded
        report = self._add(retry_failed=retry)
        present = self._present()
        readable = {path: file for path, file in self.files.items() if file.readable}
        broken = self.files.keys() - readable.keys()
        assert {path: row.content for path, row in present.items()} == {p: f.content for p, f in readable.items()}
        assert self._ledger() == dict.fromkeys(broken, "decode")
        self._check_ids(before, rows, present)
        self._check_report(report, before, present)
        new_contents = {file.content for path, file in readable.items() if rows.get(path, (0, -1))[1] != file.content}
        assert self.encoder.embedded - embedded <= len(new_contents)
        self._check_second_add(len(readable), len(broken))

    def _check_ids(self, before: dict[str, Row], rows: dict[str, tuple[int, int]], present: dict[str, Row]) -> None:
        for path, row in present.items():
            if path in rows:
                assert row.id == rows[path][0], "an image lost its id"
            else:
                known = {id for id, _ in rows.values()}
                assert row.id > self.highest_id or row.id in known, "an id was given twice"
        # A content that one gone path had, and that one new path has now, was renamed beyond doubt.
        for content in PICTURES:
            gone = [path for path, (_, had) in rows.items() if had == content and path not in self.files]
            had = [path for path, (_, had) in rows.items() if had == content]
            new = [path for path, row in present.items() if row.content == content and path not in rows]
            if len(had) == len(gone) == len(new) == 1:
                assert present[new[0]].id == rows[gone[0]][0], "a renamed image lost its id"
        assert len({row.id for row in present.values()}) == len(present)
        self.highest_id = max([self.highest_id, *(row.id for row in present.values())])

    def _check_report(self, report: AddReport, before: dict[str, Row], present: dict[str, Row]) -> None:
        assert report.found == len(self.files)
        kinds = ("added", "updated", "renamed", "unchanged", "reused", "restored", "failed")
        assert sum(getattr(report, kind) for kind in kinds) == report.found, report
        ids = {row.id for row in present.values()}
        lost = [path for path, row in before.items() if path not in self.files and row.id not in ids]
        assert report.removed == len(lost)
        assert report.failed == len(self.files) - len(present)

    def _check_second_add(self, readable: int, broken: int) -> None:
        embedded = self.encoder.embedded
        self.opened.clear()
        report = self._add()
        assert (report.unchanged, report.failed, report.found) == (readable, broken, readable + broken)
        assert report.removed == 0
        assert self.opened == []
        assert self.encoder.embedded == embedded

    @rule(
        data=st.data(),
        point=st.sampled_from(["append", "torn", "appended", "put_each", "move", "fail", "set_present", "embed"]),
    )
    def add_dies(self, data: st.DataObject, point: str) -> None:
        before, count = self._present(), data.draw(st.integers(1, 5))
        highest = max(self.highest_id, *(id for id, _ in self._rows().values()), 0)
        with pytest.MonkeyPatch.context() as patch:
            _die_at(patch, self.encoder, point, count)
            with contextlib.suppress(Died):
                self._add()
        known = {row.id for row in before.values()} | {id for id, _ in self._rows().values()}
        for path, row in self._present().items():
            # Either still as it was, or as the file is now.
            was = before[path].content if path in before else None
            assert row.content in (was, self.files[path].content if path in self.files else None)
            assert row.id in known
        self.highest_id = max(highest, *known, 0)

    @rule()
    def the_index_is_opened_again(self) -> None:
        self.index.close()
        self.index = ImageIndex.open(self.folder / "it.imgindex", encoder=self.encoder)

    @rule(where=st.sampled_from([*PATHS, *FOLDERS]))
    def images_are_taken_out(self, where: str) -> None:
        before, ledger = self._present(), self._ledger()
        inside = {path for path in (*before, *ledger) if path == where or path.startswith(where + "/")}
        try:
            removed = self.index.remove([self.root / where])
        except PathNotFound:
            assert not inside
            assert (self._present(), self._ledger()) == (before, ledger)
            return
        assert inside
        assert {image.id for image in removed} == {row.id for path, row in before.items() if path in inside}
        assert self._present() == {path: row for path, row in before.items() if path not in inside}
        assert self._ledger() == {path: stage for path, stage in ledger.items() if path not in inside}

    # what is always true

    @invariant()
    def every_vector_is_that_of_the_content_on_record(self) -> None:
        present, vectors = self._present(), self.index.vectors()
        assert len(vectors) == len(present)
        for row, vector in zip(present.values(), vectors, strict=True):
            np.testing.assert_allclose(vector, vector_of(row.content), atol=1e-6)

    @invariant()
    def the_index_is_sound(self) -> None:
        report = self.index.verify(full=True)
        assert report.ok, report.problems


def _die_at(patch: pytest.MonkeyPatch, encoder: GridMean, point: str, count: int) -> None:
    """Make the count-th call of something raise: before it does its work, or half-way, or after it."""
    calls = iter(range(count - 1))

    def dying(function: Callable[..., Any], *, late: Callable[..., Any] | None = None) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(calls, None) is not None:
                return function(*arguments, **options)
            if late is not None:
                late(*arguments)
            raise Died

        return call

    if point in ("append", "torn", "appended"):
        append = durable.append
        halves = {"torn": lambda path, at, data: append(path, at, data[: len(data) // 2]), "appended": append}
        patch.setattr(durable, "append", dying(append, late=halves.get(point)))
    elif point == "embed":
        patch.setattr(encoder, "encode", dying(encoder.encode))
    else:
        owner = Ledger if point == "fail" else Catalogue
        patch.setattr(owner, point, dying(getattr(owner, point)))


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("IMGINDEX_MACHINE_EXAMPLES", "40")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestMachine = Machine.TestCase
