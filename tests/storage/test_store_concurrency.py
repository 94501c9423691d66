"""Many readers of an index while one writer changes it: processes, forks, threads and several objects in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forking import Run
from grid_mean import GridMean
from pictures import draw

import imgindex.ingest.pipeline
from imgindex import ImageIndex
from imgindex.errors import IndexLocked, UsageError
from imgindex.storage import durable
from imgindex.storage.store import Store

Look = Callable[[], None]


@pytest.fixture(autouse=True)
def commit_each_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imgindex.ingest.pipeline, "COMMIT_SECONDS", 0.0)


FOUND = ["0", "1", "2", "3", "4", "5", "10", "11"]  # the first pictures of a/ and b/ in their order


class Looking(GridMean):
    """An encoder that calls a function in its third batch, when the first two batches are committed."""

    def __init__(self, path: str, look: Look) -> None:
        super().__init__(batch_size=4)
        self.path, self.look = path, look

    def encode(self, batch: np.ndarray) -> np.ndarray:
        if self.embedded == 8:
            self._wait_for_the_commit()
            self.look()
        return super().encode(batch)

    def _wait_for_the_commit(self) -> None:
        with ImageIndex.open(self.path) as reader:
            for _ in range(1000):
                if len(reader) == 8:
                    return
                time.sleep(0.01)
        raise AssertionError("the second batch is not committed while the third one is embedded")


def python(code: str, *arguments: str | Path) -> str:
    """Run code in a process of its own and return what it prints; it must not print anything else."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(os.fspath, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def check_first(count: int, path: str) -> None:
    """Everything that reads answers from the images that are committed."""
    with ImageIndex.open(path) as reader:
        assert [Path(path).stem for path in reader.paths()] == FOUND[:count]
        assert len(reader.similar(reader.paths()[0], n=10, include_self=True)) == count
        assert sum(reader.cluster(2).sizes) == count
        assert reader.export(Path(path).parent / "out.npz") == count
        assert reader.verify(full=True).ok
        assert reader.status()["images"] == count


def test_a_reader_during_an_add_sees_the_batches_before(index: ImageIndex, folder: Path) -> None:
    looks: list[int] = []

    def look() -> None:
        check_first(8, index.path)
        with pytest.raises(IndexLocked), ImageIndex.open(index.path) as other:
            other.add([folder])
        looks.append(1)

    index.encoder = Looking(index.path, look)
    index.add([folder])
    assert looks == [1]
    assert len(index) == 12


def test_a_reader_while_a_batch_is_committed_sees_the_batches_before(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its vectors are in the segment by then, and its images in the transaction that is still open."""
    index.encoder = GridMean(batch_size=4)
    real, looks = durable.disk.execute, []

    def execute(path: str, connection: Any, statement: str) -> None:
        segment = index._store.segments.path(1)
        if os.path.exists(segment) and os.path.getsize(segment) == 4096 + 8 * 48 and not looks:
            looks.append(statement)
            check_first(4, index.path)
        real(path, connection, statement)

    monkeypatch.setattr(durable.disk, "execute", execute)
    index.add([folder])
    assert looks == ["commit"]
    assert len(index) == 12


def test_every_command_that_reads_works_in_other_processes_during_an_add(
    index: ImageIndex, folder: Path, run: Run, tmp_path: Path
) -> None:
    looks: list[int] = []

    def look() -> None:
        at = ("--index", index.path)
        matches = json.loads(run("similar", folder / "a/0.png", "--include-self", "--json", *at).stdout)
        assert len(matches[0]["matches"]) == 8
        assert len(json.loads(run("list", "--json", *at).stdout)) == 8
        assert len(run("cluster", "-k", "2", "--out", tmp_path / "it.csv", *at).stderr) > 0
        assert len((tmp_path / "it.csv").read_text().splitlines()) == 9
        for command in (("export", "--out", tmp_path / "it.npz"), ("verify", "--full"), ("status",)):
            done = run(*command, *at)
            assert done.returncode == 0, done.stderr
        refused = run("add", folder, *at)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert len(refused.stderr.splitlines()) == 1
        assert f"(process {os.getpid()} on {os.uname().nodename})" in refused.stderr
        assert "--wait" in refused.stderr
        looks.append(1)

    index.encoder = Looking(index.path, look)
    index.add([folder])
    assert looks == [1]


def test_a_reader_goes_on_with_segments_that_a_compaction_removed(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    with ImageIndex.open(index.path) as reader:
        with reader._store.reading():
            before, vectors = reader.paths(), reader.vectors()
            index.remove([folder / "a"])
            assert index.compact().rows_dropped == 6
            assert reader.paths() == before
            np.testing.assert_array_equal(reader.vectors(), vectors)
            assert len(reader.similar(folder / "a/0.png", n=20, include_self=True)) == 12
        assert len(reader.paths()) == len(reader.vectors()) == 6
        assert len(reader.similar(folder / "b/7.png", n=20, include_self=True)) == 6


def test_two_objects_of_one_process_write_in_turn(index: ImageIndex, folder: Path) -> None:
    with ImageIndex.open(index.path) as other:
        other.encoder = GridMean()
        for number, (writer, reader) in enumerate(((index, other), (other, index), (index, other))):
            draw(folder / f"{100 + number}.png", 100 + number)
            assert writer.add([folder]).added == (13 if number == 0 else 1)
            assert reader.paths() == writer.paths()
            np.testing.assert_array_equal(reader.vectors(), writer.vectors())
            assert len(reader.similar(folder / f"{100 + number}.png")) == 10


def test_a_second_writer_in_the_same_process_is_refused_and_the_process_is_named(
    index: ImageIndex, folder: Path
) -> None:
    with closing(Store(index.path)) as store, store.writing():
        for writer in (index, ImageIndex.open(index.path)):
            with pytest.raises(IndexLocked, match=f"process {os.getpid()} on"):
                writer.add([folder])
            with pytest.raises(IndexLocked, match=f"process {os.getpid()} on"):
                writer.compact()
        writer.close()
    assert index.add([folder]).added == 12


def test_an_index_is_used_in_the_thread_that_opened_it(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    uses: list[Callable[[], Any]] = [
        index.paths,
        lambda: list(index.images()),
        lambda: index.similar(folder / "a/0.png"),
        lambda: index.add([folder]),
        lambda: index.remove([folder]),
        index.compact,
        index.close,
    ]
    outcome: list[str] = []

    def elsewhere() -> None:
        for use in uses:
            try:
                use()
            except UsageError as error:
                outcome.append(str(error))
        with ImageIndex.open(index.path) as own:
            outcome.append(str(len(own.paths())))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert outcome == ["this index was opened in another thread"] * len(uses) + ["12"]
    assert len(index.paths()) == 12


FORK = """
import os, sys
import imgindex.ingest.pipeline
from imgindex import ImageIndex
from imgindex.errors import IndexLocked, UsageError

def in_child(act):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            outcome = str(act())
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(writer, outcome.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        outcome = file.read()
    os.waitpid(pid, 0)
    return outcome

def own():
    with ImageIndex.open(sys.argv[1]) as index:
        return len(index.similar(index.paths()[0])), sum(index.cluster(2).sizes), index.verify(full=True).ok
"""


def test_a_child_that_was_forked_before_faiss_was_used_has_an_index_of_its_own(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    forked = """
print(in_child(own))
index = ImageIndex.open(sys.argv[1])
print(len(index.paths()), in_child(own))
print(in_child(index.paths), in_child(lambda: index.remove(["/"])), in_child(lambda: index.close() or "closed"))
print(len(index.paths()), index.verify(full=True).ok)
"""
    lines = python(FORK + forked, index.path).splitlines()
    assert lines[:2] == ["(10, 12, True)", "12 (10, 12, True)"]
    assert lines[2].count("UsageError: this index was opened before a fork") == 2
    assert lines[2].endswith("closed")
    assert lines[3] == "12 True"


def test_a_child_that_is_forked_while_its_parent_writes_does_not_hold_the_lock(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    forked = """
index = ImageIndex.open(sys.argv[1])
go, going = os.pipe()

def locked():
    with ImageIndex.open(sys.argv[1]) as own, own._store.writing():
        return "has it"

with index._store.writing():
    print(in_child(locked).replace(str(os.getpid()), "PARENT"))
    pid = os.fork()
    if pid == 0:  # outlives the writing
        os.close(going)
        os.read(go, 1)
        os._exit(0)
print(locked())
os.close(going)
os.waitpid(pid, 0)
"""
    lines = python(FORK + forked, index.path).splitlines()
    assert lines == [
        f"IndexLocked: another process is writing to this index (process PARENT on {os.uname().nodename})",
        "has it",
    ]


def test_after_faiss_was_used_a_new_process_is_spawned_not_forked(index: ImageIndex, folder: Path) -> None:
    """FAISS's threads do not live on in a fork: a child of this process would wait for them for ever."""
    index.add([folder])
    assert sum(index.cluster(2).sizes) == 12
    assert len(index.similar(folder / "a/0.png")) == 10
    assert python(FORK + "print(own())", index.path) == "(10, 12, True)"
