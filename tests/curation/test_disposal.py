"""Moving disposable files away, into the trash, and back: what is verified, what goes with them, what is left alone."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from collections_of import indexed
from pictures import draw

import imgindex
from imgindex import ImageIndex
from imgindex.curation import disposal
from imgindex.curation.move_journal import Journal
from imgindex.errors import FolderNotOurs, IndexLocked, UsageError
from imgindex.results import Disposal
from imgindex.storage import durable

JOURNAL = ".imgindex-moved.jsonl"


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for indexes."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".imgindex/" not in str(path))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(found)}


def names(done: Disposal, folder: Path) -> list[str]:
    return sorted(os.path.relpath(one.path, folder) for one in done.files)


def reasons(done: Disposal) -> dict[str, str]:
    return {Path(failure.path).name: failure.reason for failure in done.failures}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ImageIndex]:
    """Three pictures in p/a; copies of two in p/b/c and p/b, with sidecars, one of which another image needs."""
    for number in range(3):
        path = draw(tmp_path / f"p/a/{number}.png", number)
        os.utime(path, (1000, 1000))
    (tmp_path / "p/b/c").mkdir(parents=True)
    shutil.copy(tmp_path / "p/a/0.png", tmp_path / "p/b/c/0 again.png")
    shutil.copy(tmp_path / "p/a/1.png", tmp_path / "p/b/1.png")
    for name in ("p/b/c/0 again.xmp", "p/b/c/0 again.png.xmp", "p/b/1.xmp", "p/b/1.png.json", "p/b/readme.txt"):
        (tmp_path / name).write_text(name)
    draw(tmp_path / "p/b/1.jpg", 50)
    with indexed(tmp_path, tmp_path / "p") as index:
        yield index


MOVED = ["p/b/1.png", "p/b/1.png.json", "p/b/c/0 again.png", "p/b/c/0 again.png.xmp", "p/b/c/0 again.xmp"]


def test_disposable_files_are_moved_with_their_sidecars_and_back(index: ImageIndex, tmp_path: Path) -> None:
    before, images = files(tmp_path), {image.path: image.id for image in index.images()}
    found = index.duplicates(exact=True)
    dry = index.move_duplicates(found, tmp_path / "spare", dry_run=True)
    assert files(tmp_path) == before
    done = index.move_duplicates(found, tmp_path / "spare")
    assert (done.files, done.failures) == (dry.files, ())
    assert names(done, tmp_path) == MOVED
    after = files(tmp_path)
    assert after.pop(f"spare/{JOURNAL}")
    assert after == {f"spare/{name}" if name in MOVED else name: data for name, data in before.items()}
    assert len(index) == len(images) - 2
    assert index.duplicates(exact=True).groups == ()
    assert index.add([tmp_path / "p"]).added == 0
    assert len(index) == len(images) - 2
    back = index.undo_move(tmp_path / "spare", dry_run=True)
    assert names(back, tmp_path) == MOVED
    back = index.undo_move(tmp_path / "spare")
    assert (names(back, tmp_path), back.failures) == (MOVED, ())
    assert files(tmp_path) == before
    assert not (tmp_path / "spare").exists()
    assert {image.path: image.id for image in index.images()} == images
    report = index.add([tmp_path / "p"])
    assert (report.unchanged, report.found) == (len(images), len(images))


def test_a_folder_of_moved_files_is_not_added_again(index: ImageIndex, tmp_path: Path) -> None:
    index.move_duplicates(index.duplicates(exact=True), tmp_path / "p/spare")
    report = index.add([tmp_path / "p"])
    assert (report.found, report.added, report.renamed) == (4, 0, 0)
    assert index.add([tmp_path / "p/spare"]).found == 2


def test_the_journal_has_each_file_with_its_hash_before_the_file_is_moved(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    move = disposal.move_file

    def watch(path: str, to: str, read: object) -> None:
        last = json.loads((tmp_path / "spare" / JOURNAL).read_text().splitlines()[-1])
        assert (last["from"], os.path.join(tmp_path, "spare", last["to"])) == (path, to)
        assert len(last["sha256"]) == 64
        seen.append(path)
        move(path, to, read)  # type: ignore[arg-type]

    monkeypatch.setattr(disposal, "move_file", watch)
    done = index.move_duplicates(index.duplicates(exact=True), tmp_path / "spare")
    assert seen == [one.path for one in done.files]


def replace_keeping_time(path: Path, colour: int) -> None:
    info = path.stat()
    draw(path, colour)
    path.write_bytes(path.read_bytes().ljust(info.st_size, b"\0"))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))


@pytest.fixture
def padded(tmp_path: Path) -> Iterator[ImageIndex]:
    """A picture and two copies of it; the files have room for another picture."""
    path = draw(tmp_path / "p/a.png", 1)
    path.write_bytes(path.read_bytes().ljust(2000, b"\0"))
    for name in ("b.png", "c.png"):
        shutil.copy2(path, tmp_path / "p" / name)
    with indexed(tmp_path, tmp_path / "p") as index:
        yield index


@pytest.mark.parametrize("name", ["a.png", "b.png"])
def test_a_file_whose_bytes_were_replaced_is_never_disposable(padded: ImageIndex, tmp_path: Path, name: str) -> None:
    replace_keeping_time(tmp_path / "p" / name, 7)
    (group,) = padded.duplicates(exact=True).groups
    problems = {Path(one.path).name: one.problem for one in group.images if one.problem}
    assert problems == {name: "changed since it was added: run `imgindex add`"}
    assert Path(group.kept.path).name != name
    assert [Path(one.path).name for one in group.disposable] == ["c.png"]


@pytest.mark.parametrize("name", ["a.png", "b.png"])
def test_bytes_replaced_after_the_search_are_noticed_before_the_move(
    padded: ImageIndex, tmp_path: Path, name: str
) -> None:
    found = padded.duplicates(exact=True)
    replace_keeping_time(tmp_path / "p" / name, 7)
    before = files(tmp_path)
    done = padded.move_duplicates(found, tmp_path / "spare")
    if name == "b.png":
        assert names(done, tmp_path) == ["p/c.png"]
        assert reasons(done) == {"b.png": "changed since it was added: run `imgindex add`"}
    else:
        assert done.files == ()
        assert set(reasons(done)) == {"b.png", "c.png"}
        assert "which is kept, changed since it was added" in reasons(done)["b.png"]
        assert files(tmp_path) == before


def test_an_add_after_the_search_does_not_make_a_changed_file_disposable(padded: ImageIndex, tmp_path: Path) -> None:
    found = padded.duplicates(exact=True)
    replace_keeping_time(tmp_path / "p/b.png", 7)
    padded.add([tmp_path / "p"], rehash=True)
    assert names(padded.move_duplicates(found, tmp_path / "spare"), tmp_path) == ["p/c.png"]


def test_the_kept_file_is_not_moved_through_a_link_to_it(padded: ImageIndex, tmp_path: Path) -> None:
    found = padded.duplicates(exact=True)
    (tmp_path / "p/b.png").unlink()
    (tmp_path / "p/b.png").symlink_to("a.png")
    (tmp_path / "p/c.png").unlink()
    (tmp_path / "p/c.png").hardlink_to(tmp_path / "p/a.png")
    done = padded.move_duplicates(found, tmp_path / "spare")
    assert done.files == ()
    assert reasons(done) == {
        "b.png": "it is a link, which takes no space",
        "c.png": f"it is the same file as {tmp_path}/p/a.png, which is kept",
    }


def test_a_kept_file_that_is_gone_keeps_its_copies(padded: ImageIndex, tmp_path: Path) -> None:
    found = padded.duplicates(exact=True)
    (tmp_path / "p/a.png").unlink()
    done = padded.move_duplicates(found, tmp_path / "spare")
    assert done.files == ()
    assert "cannot be read now: No such file" in reasons(done)["b.png"]


def test_a_name_that_exists_gets_a_number_with_its_sidecars(padded: ImageIndex, tmp_path: Path) -> None:
    (tmp_path / "p/b.xmp").write_text("first")
    padded.move_duplicates(padded.duplicates(exact=True), tmp_path / "spare")
    shutil.copy2(tmp_path / "p/a.png", tmp_path / "p/b.png")
    (tmp_path / "p/b.xmp").write_text("second")
    padded.add([tmp_path / "p"])
    padded.move_duplicates(padded.duplicates(exact=True), tmp_path / "spare")
    spare = files(tmp_path / "spare/p")
    assert sorted(spare) == ["b (2).png", "b (2).xmp", "b.png", "b.xmp", "c.png"]
    assert (spare["b.xmp"], spare["b (2).xmp"]) == (b"first", b"second")
    done = padded.undo_move(tmp_path / "spare")
    assert names(done, tmp_path) == ["p/b.png", "p/b.xmp", "p/c.png"]
    assert (tmp_path / "p/b.xmp").read_text() == "second"
    assert reasons(done) == {"b.xmp": "there is another file now"}
    assert sorted(files(tmp_path / "spare/p")) == ["b.xmp"]


def test_undo_does_not_replace_a_file_and_names_what_is_gone(padded: ImageIndex, tmp_path: Path) -> None:
    padded.move_duplicates(padded.duplicates(exact=True), tmp_path / "spare")
    (tmp_path / "p/b.png").write_bytes(b"mine")
    (tmp_path / "spare/p/c.png").unlink()
    done = padded.undo_move(tmp_path / "spare")
    assert done.files == ()
    assert reasons(done) == {
        "b.png": "there is another file now",
        "c.png": f"it is no longer at {tmp_path}/spare/p/c.png",
    }
    assert (tmp_path / "p/b.png").read_bytes() == b"mine"
    (tmp_path / "p/b.png").unlink()
    assert names(padded.undo_move(tmp_path / "spare"), tmp_path) == ["p/b.png"]


def test_undo_works_without_an_index(padded: ImageIndex, tmp_path: Path) -> None:
    before = files(tmp_path)
    padded.move_duplicates(padded.duplicates(exact=True), tmp_path / "spare")
    (tmp_path / "spare").rename(tmp_path / "elsewhere")
    done = imgindex.undo_move(tmp_path / "elsewhere")
    assert (names(done, tmp_path), files(tmp_path)) == (["p/b.png", "p/c.png"], before)
    assert len(padded) == 1
    padded.add([tmp_path / "p"])
    assert len(padded) == 3


def test_a_folder_with_other_files_and_one_in_the_index_are_refused(padded: ImageIndex, tmp_path: Path) -> None:
    found = padded.duplicates(exact=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    with pytest.raises(FolderNotOurs):
        padded.move_duplicates(found, tmp_path / "full")
    with pytest.raises(FolderNotOurs):
        padded.move_duplicates(found, tmp_path / "p")
    with pytest.raises(UsageError, match="is in the index"):
        padded.move_duplicates(found, Path(padded.path, "spare"))
    with pytest.raises(FolderNotOurs, match="moved no files"):
        padded.undo_move(tmp_path / "full")


def test_nothing_is_moved_while_another_process_writes_to_the_index(padded: ImageIndex, tmp_path: Path) -> None:
    found, before = padded.duplicates(exact=True), files(tmp_path)
    with ImageIndex.open(padded.path) as other, other._store.writing(wait=lambda: False), pytest.raises(IndexLocked):
        padded.move_duplicates(found, tmp_path / "spare")
    assert files(tmp_path) == before


@pytest.fixture
def two_disks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let a folder be another file system: no file can be renamed into it or out of it."""

    def apply(folder: Path) -> None:
        rename = durable.Disk.rename

        def refuse(disk: durable.Disk, path: str, target: str) -> None:
            if path.startswith(f"{folder}/") != target.startswith(f"{folder}/"):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            rename(disk, path, target)

        monkeypatch.setattr(durable.Disk, "rename", refuse)

    return apply


def test_files_are_copied_to_another_file_system_and_back(
    index: ImageIndex, tmp_path: Path, two_disks: Callable[[Path], None]
) -> None:
    two_disks(tmp_path / "spare")
    (tmp_path / "p/b/1.png").chmod(0o440)
    before, times = files(tmp_path), {path: path.stat().st_mtime_ns for path in tmp_path.glob("p/**/*.png")}
    done = index.move_duplicates(index.duplicates(exact=True), tmp_path / "spare")
    assert (names(done, tmp_path), done.failures) == (MOVED, ())
    assert (tmp_path / "spare/p/b/1.png").stat().st_mode & 0o777 == 0o440
    assert index.undo_move(tmp_path / "spare").failures == ()
    assert files(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("p/**/*.png")} == times


def test_a_copy_with_other_bytes_is_not_a_move(
    padded: ImageIndex, tmp_path: Path, two_disks: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_disks(tmp_path / "spare")
    write = durable.Disk.write
    monkeypatch.setattr(
        durable.Disk,
        "write",
        lambda disk, path, descriptor, data, offset: write(
            disk, path, descriptor, memoryview(b"\1" * len(data)) if path.endswith(disposal.PART) else data, offset
        ),
    )
    before = files(tmp_path)
    done = padded.move_duplicates(padded.duplicates(exact=True), tmp_path / "spare")
    assert done.files == ()
    assert set(reasons(done).values()) == {"its copy has other bytes than the file: is the disk damaged?"}
    after = files(tmp_path)
    del after[f"spare/{JOURNAL}"]
    assert after == before


def test_a_full_disk_leaves_every_file_where_it_is(
    padded: ImageIndex, tmp_path: Path, two_disks: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    two_disks(tmp_path / "spare")
    found, before = padded.duplicates(exact=True), files(tmp_path / "p")

    def full(disk: durable.Disk, path: str, descriptor: int, data: memoryview, offset: int) -> int:
        if path.endswith(disposal.PART):
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.pwrite(descriptor, data, offset)

    monkeypatch.setattr(durable.Disk, "write", full)
    assert reasons(padded.move_duplicates(found, tmp_path / "spare"))["b.png"] == "No space left on device"
    assert files(tmp_path / "p") == before
    assert sorted(files(tmp_path / "spare")) == [JOURNAL]


class Stop(BaseException):
    """Ctrl-C, or the end of the process, at one step."""


class StoppingDisk(durable.Disk):
    """A disk that stops everything at its n-th step: before it, or after it."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left, self.after = at, after

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name not in ("open", "write", "truncate", "sync", "rename", "unlink", "make_folder", "sync_folder"):
            return found

        def step(*arguments: object) -> object:
            self.left -= 1
            if self.left < 0 or (self.left == 0 and not self.after):
                raise Stop
            result = found(*arguments)  # type: ignore[operator]
            if self.left == 0:
                raise Stop
            return result

        return step


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("other_disk", [False, True])
def test_undo_restores_everything_wherever_a_move_or_an_undo_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_disks: Callable[[Path], None], after: bool, other_disk: bool
) -> None:
    """As after `kill -9`: from the stop on, nothing more is done to the disk, not even tidying up."""
    for number, name in enumerate(("a.png", "b.png")):
        (tmp_path / "q").mkdir(exist_ok=True)
        (tmp_path / "q" / name).write_bytes(b"picture %d" % number)
    (tmp_path / "q/empty.xmp").write_bytes(b"")
    before = files(tmp_path / "q")
    if other_disk:
        two_disks(tmp_path / "spare")

    def move() -> None:
        journal = Journal.open(str(tmp_path / "spare"))
        mover = disposal._Mover(str(tmp_path / "spare"), str(tmp_path), journal, dry_run=False)
        for name in sorted(before):
            if (tmp_path / "q" / name).exists():
                paths = mover.names(str(tmp_path / "q"), [name])
                path = str(tmp_path / "q" / name)
                mover.move(path, paths[name], disposal._hash(path), "")

    def stopped(at: int, action: Callable[[], object]) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "disk", StoppingDisk(at, after=after))
            try:
                action()
            except Stop:
                return True
        return False

    step, stops = 1, 0
    while True:
        was_stopped = stopped(step, move)
        together = list(files(tmp_path / "q").values()) + list(files(tmp_path / "spare").values())
        assert all(data in together for data in before.values()), f"lost at step {step}"
        if (tmp_path / "spare" / JOURNAL).exists():
            undo_step = 1 + step % 7
            while stopped(undo_step, lambda: imgindex.undo_move(tmp_path / "spare")):
                together = list(files(tmp_path / "q").values()) + list(files(tmp_path / "spare").values())
                assert all(data in together for data in before.values()), f"lost by undo at step {step}, {undo_step}"
                undo_step += 3
                if not (tmp_path / "spare" / JOURNAL).exists():
                    break
        shutil.rmtree(tmp_path / "spare", ignore_errors=True)
        assert files(tmp_path / "q") == before, f"step {step}"
        step, stops = step + 1, stops + was_stopped
        if not was_stopped:
            break
    assert stops > 15


def test_ctrl_c_leaves_a_journal_and_an_index_that_agree(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, found = files(tmp_path), index.duplicates(exact=True)
    moves, move = [], disposal.move_file

    def interrupt(path: str, to: str, read: object) -> None:
        if len(moves) == 3:
            raise KeyboardInterrupt
        moves.append(path)
        move(path, to, read)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(disposal, "move_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.move_duplicates(found, tmp_path / "spare")
    assert index.verify(full=True).ok
    assert index.undo_move(tmp_path / "spare").failures == ()
    assert files(tmp_path) == before
    assert index.add([tmp_path / "p"]).unchanged == len(index)


def test_the_trash_gets_files_with_their_sidecars(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import send2trash

    trashed: list[str] = []

    def put(path: str) -> None:
        trashed.append(os.path.relpath(path, tmp_path))
        shutil.move(path, tmp_path / "trash" / str(len(trashed)))

    (tmp_path / "trash").mkdir()
    monkeypatch.setattr(send2trash, "send2trash", put)
    found, count = index.duplicates(exact=True), len(index)
    assert names(index.trash_duplicates(found, dry_run=True), tmp_path) == MOVED
    assert trashed == []
    done = index.trash_duplicates(found)
    assert (done.folder, {one.to for one in done.files}) == ("", {""})
    assert sorted(trashed) == MOVED
    assert len(index) == count - 2
