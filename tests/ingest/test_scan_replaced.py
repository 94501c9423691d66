"""What `add` notices of files that were replaced by others of the same size and time, and `rehash`, which reads all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from add_checks import counts, ids, means, vector
from grid_mean import GridMean
from pictures import draw

from imgindex import ImageIndex


def replace_in_place(path: Path, colour: int) -> None:
    """Put another picture of the same size into a file, and set its time back."""
    info = path.stat()
    draw(path, colour)
    path.write_bytes(path.read_bytes().ljust(info.st_size, b"\0"))
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)


def replace_by_rename(path: Path, colour: int) -> None:
    """As `rsync --times` does: another file takes the name, with the same size and time."""
    info, other = path.stat(), path.with_name("temporary.png")
    draw(other, colour)
    other.write_bytes(other.read_bytes().ljust(info.st_size, b"\0"))
    os.utime(other, ns=(info.st_atime_ns, info.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)


def forget_numbers(index: ImageIndex) -> None:
    """Let a catalogue lack what an older version did not record."""
    with index._store.writing(wait=lambda: False) as writer, writer.catalogue.atomic():
        for table in ("images", "failures"):
            writer.catalogue.connection.execute(f"update {table} set ctime_ns = null, inode = null")


def recorded(index: ImageIndex) -> list[tuple[int | None, int | None]]:
    known = index._store.catalogue.known(index.paths())
    return [known[path].stat[2:4] for path in index.paths()]


def pad(folder: Path) -> None:
    """Make all pictures of a folder the same size in bytes."""
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes().ljust(4096, b"\0"))


@pytest.mark.parametrize("replace", [replace_in_place, replace_by_rename])
def test_a_file_replaced_with_the_same_size_and_time_is_embedded_again(
    index: ImageIndex, folder: Path, encoder: GridMean, replace: object
) -> None:
    pad(folder)
    index.add([folder])
    before, embedded = ids(index), encoder.embedded
    assert callable(replace)
    replace(folder / "a/3.png", 88)
    assert index.add([folder], dry_run=True).unchanged == 12
    assert counts(index.add([folder])) == {"updated": 1, "unchanged": 11}
    assert encoder.embedded == embedded + 1
    assert ids(index) == before
    assert vector(index, "3.png") == pytest.approx(means(folder / "a/3.png"), abs=1e-5)


def test_a_file_whose_ctime_alone_is_new_is_read_once(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    index.add([folder])
    os.chmod(folder / "a/3.png", 0o600)
    os.link(folder / "a/4.png", folder / "a/4.link")
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == ["3.png", "4.png"]
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == []
    assert encoder.embedded == 12


def test_numbers_that_an_older_version_did_not_record_are_filled_in_without_opening(
    index: ImageIndex, folder: Path, opened: list[str]
) -> None:
    (folder / "broken.png").write_text("not a picture")
    index.add([folder])
    before = recorded(index)
    forget_numbers(index)
    assert set(recorded(index)) == {(None, None)}
    opened.clear()
    assert counts(index.add([folder], dry_run=True)) == {"unchanged": 12, "failed": 1}
    assert set(recorded(index)) == {(None, None)}
    assert counts(index.add([folder])) == {"unchanged": 12, "failed": 1}
    assert opened == []
    assert recorded(index) == before
    (failure,) = index.failures()
    assert failure.inode == (folder / "broken.png").stat().st_ino


def test_a_failure_is_retried_when_a_good_file_takes_its_place_with_the_same_size_and_time(
    index: ImageIndex, folder: Path
) -> None:
    good = (folder / "a/3.png").read_bytes()
    (folder / "a/3.png").write_bytes(b"x" * len(good))
    os.utime(folder / "a/3.png", ns=(10**18, 10**18))
    assert counts(index.add([folder])) == {"added": 11, "failed": 1}
    assert counts(index.add([folder])) == {"unchanged": 11, "failed": 1}
    (folder / "restored").write_bytes(good)
    os.utime(folder / "restored", ns=(10**18, 10**18))
    os.replace(folder / "restored", folder / "a/3.png")
    assert counts(index.add([folder])) == {"added": 1, "unchanged": 11}
    assert list(index.failures()) == []


def test_rehash_reads_everything_and_embeds_what_has_other_bytes(
    index: ImageIndex, folder: Path, encoder: GridMean, opened: list[str]
) -> None:
    pad(folder)
    index.add([folder])
    before = ids(index)
    replace_in_place(folder / "a/3.png", 88)
    # As if the file system kept no other numbers.
    forget_numbers(index)
    opened.clear()
    assert counts(index.add([folder])) == {"unchanged": 12}
    assert opened == []
    assert counts(index.add([folder], rehash=True, dry_run=True)) == {"unchanged": 12}
    assert counts(index.add([folder], rehash=True)) == {"updated": 1, "unchanged": 11}
    assert sorted(opened) == sorted(path.name for path in folder.rglob("*.png"))
    assert ids(index) == before
    assert vector(index, "3.png") == pytest.approx(means(folder / "a/3.png"), abs=1e-5)
    assert encoder.embedded == 13


def test_rehash_of_an_unchanged_folder_writes_nothing_and_can_be_stopped(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert counts(index.add([folder], rehash=True)) == {"unchanged": 12}
    report = index.add([folder], rehash=True, stop=lambda: True)
    assert report.interrupted
    assert len(index) == 12


def test_rehash_tries_failures_again_and_marks_an_image_that_became_unreadable(index: ImageIndex, folder: Path) -> None:
    pad(folder)
    (folder / "broken.png").write_text("not a picture")
    index.add([folder])
    info = (folder / "a/3.png").stat()
    (folder / "a/3.png").write_bytes(b"x" * info.st_size)
    os.utime(folder / "a/3.png", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert counts(index.add([folder], rehash=True)) == {"failed": 2, "unchanged": 11}
    assert len(index) == 11


def test_an_image_is_answered_from_its_own_bytes_if_they_were_replaced(index: ImageIndex, folder: Path) -> None:
    pad(folder)
    index.add([folder])
    replace_in_place(folder / "a/3.png", 4)
    os.chmod(folder / "b/7.png", 0o600)
    (nearest,) = index.similar(folder / "a/3.png", n=1)
    assert Path(nearest.path).name == "4.png"
    assert nearest.distance == pytest.approx(0, abs=1e-6)
    assert "7.png" not in {Path(match.path).name for match in index.similar(folder / "b/7.png", n=12)}
