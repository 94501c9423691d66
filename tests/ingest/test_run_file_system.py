"""`add` with links, special files, files that change during the run, and other disks."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from add_checks import observe_work
from forking import ForkServer, Run
from grid_mean import GridMean
from pictures import draw

from imgindex import AddReport, ImageIndex, Progress
from imgindex.decoding.process import Task

SPECIAL = {"fifo.jpg", "socket.jpg", "zero.jpg", "full.jpg", "tty.jpg"}


def counts(report: AddReport) -> dict[str, int]:
    kinds = ("added", "updated", "renamed", "unchanged", "reused", "restored", "failed", "removed")
    return {kind: getattr(report, kind) for kind in kinds if getattr(report, kind)}


def ledger(index: ImageIndex) -> dict[str, str]:
    return {Path(failure.path).name: f"{failure.stage}: {failure.reason}" for failure in index.failures()}


def after_the_scan(change: Callable[[], object]) -> Callable[[Progress], None]:
    """Call `change` once, when all files are listed and none is opened."""
    waiting = [change]

    def on_progress(progress: Progress) -> None:
        if waiting and progress.done:
            waiting.pop()()

    return on_progress


@pytest.fixture
def special(tmp_path: Path) -> Iterator[Path]:
    """A folder of two pictures, and of special files named like pictures that would block, or never end, if read."""
    folder = tmp_path / "special"
    draw(folder / "a.jpg", 1)
    draw(folder / "z.jpg", 2)
    os.mkfifo(folder / "fifo.jpg")
    for name in ("zero", "full", "tty"):
        (folder / f"{name}.jpg").symlink_to(f"/dev/{name}")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(os.path.relpath(folder / "socket.jpg"))
        yield folder


def test_links_that_lead_in_circles_are_walked_once(index: ImageIndex, folder: Path, encoder: GridMean) -> None:
    (folder / "a/up").symlink_to(folder)
    (folder / "a/down").symlink_to("../b")
    (folder / "b/down").symlink_to("../a")
    (folder / "b/itself").symlink_to("itself")
    (folder / "b/itself.png").symlink_to("itself.png")
    report = index.add([folder])
    assert counts(report) == {"added": 12, "failed": 1}
    assert ledger(index) == {"itself.png": "find: broken symbolic link"}
    assert counts(index.add([folder, folder / "a/up/a/up", folder / "b"])) == {"unchanged": 12, "failed": 1}
    assert encoder.embedded == 12


def test_special_files_are_neither_waited_for_nor_read_wherever_they_are_named(
    server: ForkServer, three: Path, special: Path
) -> None:
    paths = sorted(str(path) for path in special.iterdir())
    (three / "paths").write_text("\n".join(paths))
    for arguments in ([str(special)], paths, ["-"]):
        done = server.run("add", *arguments, "--json", folder=three, stdin=str(three / "paths"))
        assert done.code == 3, done
        assert server.run("status", folder=three).code == 0
        failures = server.run("failures", "--format", "csv", folder=three).stdout.decode().splitlines()[1:]
        assert {Path(line.split(",")[0]).name for line in failures} == SPECIAL
        assert all("find,not a regular file" in line for line in failures)
    for name in sorted(SPECIAL):
        done = server.run("similar", special / name, folder=three)
        assert done.code == 1
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes device nodes")
def test_device_nodes_are_failures(index: ImageIndex, folder: Path) -> None:
    try:
        os.mknod(folder / "zero.png", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("no device nodes here")
    assert counts(index.add([folder])) == {"added": 12, "failed": 1}
    assert ledger(index) == {"zero.png": "find: not a regular file"}


def test_files_that_become_something_else_between_listing_and_opening_do_not_end_the_run(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    a, b = folder / "a", folder / "b"

    def change() -> None:
        for path in [*(a / f"{n}.png" for n in range(5)), *b.iterdir()]:
            path.unlink()
        os.mkfifo(a / "0.png")
        (a / "1.png").mkdir()
        (a / "2.png").symlink_to("/dev/zero")
        (a / "3.png").symlink_to("3.png")
        draw(a / "4.png", 77)
        b.rmdir()
        b.write_text("a file where a folder was")

    report = index.add([folder], on_progress=after_the_scan(change))
    assert counts(report) == {"added": 2, "failed": 10}
    assert {Path(f.path).name: f.reason for f in report.failures if "/a/" in f.path} == {
        "0.png": "not a regular file",
        "1.png": "not a regular file",
        "2.png": "not a regular file",
        "3.png": "Too many levels of symbolic links",
    }
    assert {Path(path).name for path in index.paths()} == {"4.png", "5.png"}
    assert set(ledger(index)) == {"0.png", "2.png", "3.png"}
    assert counts(index.add([folder])) == {"unchanged": 2, "failed": 3}


def test_a_file_that_grows_while_it_is_read_is_a_failure_until_it_has_come_to_rest(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder / "a/0.png"])
    growing, copy = folder / "a/3.png", folder / "b/copy.png"
    shutil.copy(growing, copy)

    def grow(tasks: Sequence[Task]) -> None:
        if any(task.path == str(growing) and task.decode for task in tasks):
            with growing.open("ab") as file:
                file.write(b"more")

    with monkeypatch.context() as patch:
        observe_work(patch, grow)
        report = index.add([folder])
    # The copy, which waited for the vector of the other file, is embedded by itself.
    assert counts(report) == {"added": 11, "unchanged": 1, "failed": 1}
    assert ledger(index) == {"3.png": "read: file changed while it was read"}
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 12}
    assert ledger(index) == {}


def test_a_broken_file_replaced_by_a_folder_leaves_the_ledger(index: ImageIndex, folder: Path) -> None:
    (folder / "a/3.png").write_text("broken")
    assert counts(index.add([folder])) == {"added": 11, "failed": 1}
    (folder / "a/3.png").unlink()
    draw(folder / "a/3.png/inside.png", 70)
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 11}
    assert ledger(index) == {}


# many, elsewhere, twice


def test_thousands_of_empty_files_are_as_many_lines_of_the_ledger_and_opened_once(
    server: ForkServer, three: Path
) -> None:
    for number in range(3000):
        (three / "pictures" / f"{number:04d}.jpg").touch()
    done = server.run("add", "pictures", "--json", folder=three)
    assert done.code == 3
    assert len(done.stderr.splitlines()) == 11
    assert "2,990 more" in done.stderr
    lines = server.run("failures", "--format", "tsv", folder=three).stdout.decode().splitlines()[1:]
    known = [line.split("\t")[:3] for line in lines]
    assert known == [[f"pictures/{number:04d}.jpg", "read", "file is empty"] for number in range(3000)]
    done = server.run("add", "pictures", folder=three)
    assert done.code == 3
    assert (
        done.stderr.splitlines()[0]
        == "3,000 images that failed before were not tried again (--retry-failed tries them)"
    )


def test_a_root_on_another_disk_is_as_good_as_any(server: ForkServer, three: Path) -> None:
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == three.stat().st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        shutil.move(three / "pictures/1.png", other)
        done = server.run("add", "pictures", other, folder=three)
        assert b"renamed" in done.stdout
        done = server.run("list", "--format", "paths", folder=three)
        assert done.stdout.decode().splitlines() == ["pictures/0.png", f"{other}/1.png", "pictures/2.png"]
        # Emptied, on a disk that is there.
        (Path(other) / "1.png").unlink()
        assert b"removed" in server.run("add", other, folder=three).stdout


def test_indexes_inside_the_tree_hold_no_images(server: ForkServer, three: Path, special: Path) -> None:
    shutil.copytree(three / ".imgindex", three / "pictures/other.imgindex")
    shutil.copytree(three / ".imgindex", three / "pictures/other")
    for folder in (".imgindex", "pictures/other.imgindex", "pictures/other"):
        draw(three / folder / "thumbnails/0.png", 90)
    shutil.rmtree(special)
    done = server.run("add", ".", "--format", "csv", folder=three)
    assert done.stdout.splitlines()[1].startswith(b"3,0,0,0,3,")


def test_an_index_that_moves_knows_what_lies_beside_it_and_what_lies_elsewhere(
    server: ForkServer, three: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(three / "pictures/0.png", elsewhere / "copy.png")
    server.run("add", elsewhere, folder=three)
    moved = tmp_path_factory.mktemp("moved") / "here"
    shutil.copytree(three, moved)
    shutil.rmtree(three / "pictures")
    done = server.run("add", "pictures", elsewhere, "--format", "csv", folder=moved)
    assert done.stdout.splitlines()[1].startswith(b"4,0,0,0,4,0,0,0,0,")
    listed = server.run("list", "--format", "paths", folder=moved).stdout.decode().splitlines()
    assert listed == ["pictures/0.png", "pictures/1.png", "pictures/2.png", f"{elsewhere}/copy.png"]


def test_two_names_of_one_file_are_two_images_with_one_vector(
    index: ImageIndex, folder: Path, encoder: GridMean
) -> None:
    os.link(folder / "a/3.png", folder / "b/3 too.png")
    assert counts(index.add([folder])) == {"added": 12, "reused": 1}
    time = (folder / "a/3.png").stat().st_mtime_ns + 10**9
    draw(folder / "a/3.png", 200)
    os.utime(folder / "a/3.png", ns=(time, time))
    assert counts(index.add([folder])) == {"updated": 2, "unchanged": 11}
    assert encoder.embedded == 13
    vectors = dict(zip((Path(path).name for path in index.paths()), index.vectors().tolist(), strict=True))
    assert vectors["3.png"] == vectors["3 too.png"]
    (folder / "a/3.png").unlink()
    assert counts(index.add([folder])) == {"unchanged": 12, "removed": 1}


# Years 1601, 1969, 2262 just before and after what 64 bits of nanoseconds reach, 9999, and far beyond.
TIMES = (-11_644_473_600 * 10**9, -1, 2**63 - 1, 2**63, 253_402_300_799 * 10**9, 10**22, -(10**22))


@pytest.mark.parametrize("base", [None, "/dev/shm"])
def test_files_of_any_time_are_added_shown_and_unchanged(
    base: str | None, index: ImageIndex, run: Run, encoder: GridMean, tmp_path: Path
) -> None:
    if base is not None and not os.path.isdir(base):
        pytest.skip(f"{base} does not exist")
    with tempfile.TemporaryDirectory(dir=base) as folder:
        for number, time in enumerate(TIMES):
            os.utime(draw(Path(folder, f"{number}.png"), number), ns=(time, time))
        with Path(folder, "huge.png").open("wb") as file:
            file.truncate(10**12)
        assert counts(index.add(folder)) == {"added": len(TIMES), "failed": 1}
        assert counts(index.add(folder)) == {"unchanged": len(TIMES), "failed": 1}
        assert encoder.embedded == len(TIMES)
        for image in index.images():
            actual = os.stat(image.path).st_mtime_ns
            assert image.mtime_ns == max(-(2**63), min(2**63 - 1, actual))
            assert index.similar(image.path, n=1, include_self=True)[0].id == image.id
        old = {Path(image.path).stem for image in index.images(where="modified < '1970'")}
        assert old == {"0", "1", "6"}
        for command in (
            ["list", "--json"],
            ["list"],
            ["failures", "--json"],
            ["status"],
            ["duplicates", "--similar", "--distance", "9", "--keep", "oldest"],
            ["duplicates", "--similar", "--distance", "9", "--html", "d.html", "--format", "csv"],
            ["export", "--out", "e.parquet"],
            ["cluster", "-k", "2", "--copy-to", "copies"],
            ["cluster", "-k", "2", "--copy-to", "copies"],
        ):
            done = run(*command, "--index", index.path)
            assert (done.returncode, "unexpected" in done.stderr) == (0, False), (command, done.stderr)
        assert index.verify(full=True).ok
