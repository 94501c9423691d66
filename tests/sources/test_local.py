"""Finding files: which ones, in which order, what is left out, and what becomes a failure."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgindex.export.folders import link_folders
from imgindex.sources import local
from imgindex.sources.local import is_missing
from imgindex.sources.registry import find_files, only_images
from imgindex.sources.selection import IMAGE_SUFFIXES, SkippedFiles, ending
from imgindex.types import Failure, FoundFile


def touch(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not opened")


def names(folder: Path, *roots: Path, **options: Any) -> list[str]:
    found = list(only_images(find_files([str(root) for root in roots or [folder]], **options)))
    assert all(isinstance(file, FoundFile) for file in found), found
    return [os.path.relpath(file.path, folder) for file in found]


def failures(*roots: Path) -> list[tuple[str, str]]:
    return [(Path(f.path).name, f.reason) for f in find_files(map(str, roots)) if isinstance(f, Failure)]


def test_a_folder_is_walked_in_the_order_of_the_names_bytes(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.png", "a/b/c.gif", "Z.webp", "é.jpg", "a.jpg", "c.txt", "noext", "\udcff.jpg")
    assert names(tmp_path) == ["Z.webp", "a/b/c.gif", "a/z.png", "a.jpg", "b.jpg", "é.jpg", "\udcff.jpg"]


def test_size_times_and_inode_are_those_of_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_234_567_890_123_456_789))
    info = os.stat(tmp_path / "a.jpg")
    assert list(find_files([str(tmp_path)])) == [
        FoundFile(str(tmp_path / "a.jpg"), 10, 1_234_567_890_123_456_789, info.st_ctime_ns, info.st_ino)
    ]


@pytest.mark.parametrize(
    ("type", "kept"), [("ext4", True), ("btrfs", True), ("vfat", False), ("exfat", False), ("fuse.sshfs", False)]
)
def test_inodes_that_a_file_system_makes_up_are_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, type: str, kept: bool
) -> None:
    info = os.stat(tmp_path)
    device = f"{os.major(info.st_dev)}:{os.minor(info.st_dev)}"
    table = tmp_path / "mountinfo"
    photos = f"36 21 {device} / /my\\040photos rw shared:1 master:2 - {type} x rw"
    table.write_text(f"21 1 0:99 / /proc rw shared:5 - vfat none rw\n{photos}\n")
    monkeypatch.setattr(local, "MOUNTS", str(table))
    touch(tmp_path / "photos", "a.jpg")
    local._keeps_inodes.cache_clear()
    try:
        (found,) = find_files([str(tmp_path / "photos")])
    finally:
        local._keeps_inodes.cache_clear()
    assert isinstance(found, FoundFile)
    assert (found.inode is not None) == kept


def test_suffixes_match_in_any_case_and_a_file_root_needs_none(tmp_path: Path) -> None:
    touch(tmp_path, "A.JPG", "b.TiFf", "c.jpgx", "jpg", "d.dat")
    assert names(tmp_path) == ["A.JPG", "b.TiFf"]
    assert names(tmp_path, tmp_path / "d.dat") == ["d.dat"]


def test_the_suffixes_are_what_pillow_can_decode() -> None:
    known = Image.registered_extensions()
    cannot = {"BUFR", "EPS", "GRIB", "HDF5", "IM", "MPEG", "WMF"}
    decodable = {
        suffix for suffix, name in known.items() if name not in cannot and (name in Image.OPEN or name == "MPO")
    }
    assert decodable | {".heic", ".heif", ".heics", ".heifs", ".hif", ".jxl"} == IMAGE_SUFFIXES


def test_hidden_files_and_folders_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, ".a.jpg", "._b.jpg", ".git/c.jpg", "@eaDir/d.jpg", "x/node_modules/e.jpg", "__MACOSX/f.jpg")
    touch(tmp_path, "$RECYCLE.BIN/g.jpg", "System Volume Information/h.jpg", "x/i.jpg")
    assert names(tmp_path) == ["x/i.jpg"]


def test_a_hidden_folder_is_walked_when_it_is_named(tmp_path: Path) -> None:
    touch(tmp_path, ".photos/a.jpg")
    assert names(tmp_path, tmp_path / ".photos") == [".photos/a.jpg"]


def test_indexes_are_never_entered(tmp_path: Path) -> None:
    touch(tmp_path, "old.imgindex/a.jpg", "other/catalogue.db", "other/segments/1.vec", "other/thumbnails/b.jpg")
    touch(tmp_path, "music/catalogue.db", "music/cover.jpg", "mine/thumbnails/c.jpg", "here.jpg")
    assert names(tmp_path, skip=[str(tmp_path / "mine"), str(tmp_path / "gone")]) == ["here.jpg", "music/cover.jpg"]


def test_exclude_matches_names_and_paths_from_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a_small.jpg", "raw/b.jpg", "x/raw/c.jpg", "x/d.png", "X/e.png")
    assert names(tmp_path, exclude=["*_small.*", "raw/", "x/*.png"]) == ["X/e.png", "a.jpg"]
    assert names(tmp_path, exclude=["x/raw"]) == ["X/e.png", "a.jpg", "a_small.jpg", "raw/b.jpg", "x/d.png"]


def test_links_are_followed_and_loops_are_harmless(tmp_path: Path) -> None:
    touch(tmp_path, "tree/a/b.jpg", "elsewhere/c.jpg")
    (tmp_path / "tree/a/up").symlink_to(tmp_path / "tree")
    (tmp_path / "tree/a/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree/z.jpg").symlink_to(tmp_path / "elsewhere/c.jpg")
    assert names(tmp_path, tmp_path / "tree") == ["tree/a/b.jpg", "tree/a/there/c.jpg"]


def test_a_file_and_links_to_it_are_one_file_by_its_own_path_or_the_first_link(tmp_path: Path) -> None:
    touch(tmp_path, "tree/m.jpg", "elsewhere/c.jpg", "tree/.hidden/d.jpg", "tree/hard.jpg")
    for name, target in {
        "a": "m.jpg",
        "z": "m.jpg",
        "b": "../elsewhere/c.jpg",
        "y": "b.jpg",
        "e": ".hidden/d.jpg",
    }.items():
        (tmp_path / f"tree/{name}.jpg").symlink_to(target)
    (tmp_path / "tree/hard 2.jpg").hardlink_to(tmp_path / "tree/hard.jpg")
    found = ["tree/hard 2.jpg", "tree/hard.jpg", "tree/m.jpg", "tree/b.jpg", "tree/e.jpg"]
    assert names(tmp_path, tmp_path / "tree") == found
    assert names(tmp_path, tmp_path / "tree/a.jpg", tmp_path / "tree/z.jpg", tmp_path / "tree/m.jpg") == ["tree/m.jpg"]
    assert names(tmp_path, tmp_path / "tree/a.jpg", tmp_path / "tree") == found
    assert names(tmp_path, tmp_path / "tree/z.jpg", tmp_path / "tree/a.jpg") == ["tree/z.jpg"]


@pytest.mark.parametrize(
    "roots",
    [
        ["", "sub", ""],
        ["sub", ""],
        ["sub/b.jpg", "", "sub/b.jpg"],
        ["", "sub/b.jpg", "a.jpg"],
        ["a.jpg", "a.jpg", "link/b.jpg", ""],
    ],
)
def test_overlapping_roots_yield_each_file_once(tmp_path: Path, roots: list[str]) -> None:
    touch(tmp_path / "root", "a.jpg", "sub/b.jpg")
    (tmp_path / "root/link").symlink_to(tmp_path / "root/sub")
    found = names(tmp_path / "root", *(tmp_path / "root" / root for root in roots))
    assert sorted(name.replace("link", "sub") for name in found) == ["a.jpg", "sub/b.jpg"]


def test_a_file_root_that_its_folder_would_leave_out_comes_out_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.dat", ".b.jpg", "c.jpg", "sub/c.jpg")
    roots = [tmp_path, tmp_path / "a.dat", tmp_path / ".b.jpg", tmp_path / "sub/c.jpg", tmp_path / "a.dat"]
    assert names(tmp_path, *roots, exclude=["sub/c.*"]) == ["c.jpg", "a.dat", ".b.jpg", "sub/c.jpg"]


def test_special_files_are_failures_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "broken.txt").symlink_to("nowhere")
    (tmp_path / "selfless").symlink_to("selfless")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket.gif"))
        assert failures(tmp_path) == [
            ("broken.jpg", "broken symbolic link"),
            ("fifo.png", "not a regular file"),
            ("self.jpg", "broken symbolic link"),
            ("socket.gif", "not a regular file"),
        ]
    assert failures(tmp_path / "fifo.png", tmp_path / "fifo.png") == [("fifo.png", "not a regular file")]


def test_a_failure_carries_the_numbers_of_the_link_itself(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    info = os.lstat(tmp_path / "broken.jpg")
    numbers = {"size": info.st_size, "mtime_ns": info.st_mtime_ns, "ctime_ns": info.st_ctime_ns, "inode": info.st_ino}
    assert list(find_files([str(tmp_path)])) == [
        Failure(str(tmp_path / "broken.jpg"), "find", "broken symbolic link", **numbers)
    ]


def test_missing_and_impossible_roots_are_failures(tmp_path: Path) -> None:
    touch(tmp_path, "file.jpg")
    (tmp_path / "link").symlink_to("nowhere")
    assert failures(tmp_path / "gone", tmp_path / "link", tmp_path / "file.jpg/below") == [
        ("gone", "no such file or folder"),
        ("link", "broken symbolic link"),
        ("below", "cannot read: Not a directory"),
    ]
    assert all(
        f.reason.startswith("not a path") for f in find_files(["/nul\0.jpg", "/\ud800.jpg"]) if isinstance(f, Failure)
    )


def test_an_unreadable_folder_is_a_failure_and_the_rest_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    scandir = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if path.endswith("/b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = list(find_files([str(tmp_path)]))
    assert [Path(f.path).name for f in found] == ["1.jpg", "b", "3.jpg"]
    assert isinstance(found[1], Failure)
    assert found[1].reason == "cannot list: Permission denied"
    assert found[1].mtime_ns > 0
    # A file of that folder can still be given by name.
    assert names(tmp_path, tmp_path / "b" / "2.jpg") == ["b/2.jpg"]
    assert failures(tmp_path / "b", tmp_path / "b") == [("b", "cannot list: Permission denied")]


def test_a_file_that_vanishes_during_the_walk_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c/d.jpg", "e.jpg")
    found = []
    for file in find_files([str(tmp_path)]):
        found.append(Path(file.path).name)
        if len(found) == 1:
            (tmp_path / "b.jpg").unlink()
            (tmp_path / "c/d.jpg").unlink()
            (tmp_path / "c").rmdir()
    assert found == ["a.jpg", "e.jpg"]


def test_any_name_comes_out_as_it_is(tmp_path: Path) -> None:
    odd = ["new\nline.jpg", "quote'\".jpg", "tab\t.jpg", os.fsdecode(b"latin-\xe9.jpg"), " .jpg", "[a]*?.jpg"]
    for name in odd:
        (tmp_path / name).write_bytes(b"x")
    assert set(names(tmp_path)) == set(odd)
    assert names(tmp_path, *(tmp_path / name for name in odd)) == odd


@contextmanager
def nested(folder: Path, name: str, depth: int) -> Iterator[None]:
    """Stand in the deepest of many folders; they are removed here, because pytest's own clean-up recurses."""
    before = os.open(".", os.O_RDONLY)
    os.chdir(folder)
    try:
        for _ in range(depth):
            Path(name).mkdir()
            os.chdir(name)
        Path("deep.jpg").touch()
        yield
    finally:
        Path("deep.jpg").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path(name).rmdir()
        os.fchdir(before)
        os.close(before)


def test_folders_nest_deeper_than_python_recurses(tmp_path: Path) -> None:
    with nested(tmp_path, "d", 1500):
        (found,) = find_files([str(tmp_path)])
    assert isinstance(found, FoundFile)
    assert found.path.endswith("/d/d/deep.jpg")


def test_a_path_that_is_too_long_is_a_failure(tmp_path: Path) -> None:
    with nested(tmp_path, "x" * 250, 20):
        (found,) = find_files([str(tmp_path)])
    assert isinstance(found, Failure)
    assert found.reason == "cannot list: File name too long"
    assert (found.size, found.mtime_ns) == (-1, -1)


def test_roots_are_read_one_by_one(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")

    def roots() -> Iterator[str]:
        yield str(tmp_path / "a.jpg")
        raise AssertionError("read ahead")

    assert next(find_files(roots())).path == str(tmp_path / "a.jpg")


@pytest.mark.parametrize("copy", [False, True])
def test_of_folders_that_imgindex_exported_only_its_links_and_copies_are_hidden(tmp_path: Path, copy: bool) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    link_folders(tmp_path / "sorted", {"cats": [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]}, copy=copy)
    skipped = SkippedFiles()
    assert names(tmp_path, skipped=skipped) == ["a.jpg", "b.jpg"]
    assert skipped.exported == 2
    touch(tmp_path, "sorted/mine.jpg", "sorted/cats/mine.jpg", "sorted/dogs/mine.jpg")
    mine = ["sorted/cats/mine.jpg", "sorted/dogs/mine.jpg", "sorted/mine.jpg"]
    assert names(tmp_path) == ["a.jpg", "b.jpg", *mine]
    # A file that was put in the place of a link or copy is the user's.
    (tmp_path / "sorted/cats/a.jpg").unlink()
    (tmp_path / "sorted/cats/a.jpg").write_bytes(b"a picture of the user")
    assert names(tmp_path) == ["a.jpg", "b.jpg", "sorted/cats/a.jpg", *mine]


def test_links_that_imgindex_exported_are_found_where_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    link_folders(tmp_path / "sorted", {"cats": [str(tmp_path / "a.jpg")]})
    assert names(tmp_path, tmp_path / "sorted") == ["sorted/cats/a.jpg"]
    assert names(tmp_path, tmp_path / "sorted/cats") == ["sorted/cats/a.jpg"]
    # A link to a file that is found itself is not another file.
    assert names(tmp_path, tmp_path, tmp_path / "sorted/cats/a.jpg") == ["a.jpg"]


@pytest.mark.parametrize("manifest", ["", "not json", '{"made": {"../a.jpg": {"source": "x"}}, "folders": [".."]}'])
def test_a_manifest_that_imgindex_did_not_write_hides_nothing(tmp_path: Path, manifest: str) -> None:
    touch(tmp_path, "a.jpg", "sorted/cats/b.jpg")
    (tmp_path / "sorted/.imgindex-folders.json").write_text(manifest)
    assert names(tmp_path) == ["a.jpg", "sorted/cats/b.jpg"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.MOV", ".mov"),
        ("a.tar.gz", ".tar.gz"),
        ("a.7z", ".7z"),
        ("a.jpg~", ".jpg~"),
        ("a.crdownload", ".crdownload"),
        ("Makefile", ""),
        ("a.", ""),
        ("a.jpg.1", ""),
        ("Screenshot at 10.15.30", ""),
        ("a.jpg?width=200", ""),
        ("a.jpg_large", ""),
        ("a.jpg ", ""),
        ("D5C0FB2E-0C4C", ""),
        ("v1.2 of the plan", ""),
    ],
)
def test_an_ending_is_a_few_letters_and_digits_after_the_last_dot(name: str, expected: str) -> None:
    assert ending(name) == expected


def test_files_without_an_ending_are_recognised_by_their_content(tmp_path: Path) -> None:
    touch(tmp_path, "Makefile", "b.txt", "sub/data")
    for name in ("photo", "c.jpg?width=200", "d.jpg.1", "sub/e.png_large"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "PNG")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.txt", "PNG")
    (tmp_path / "empty").touch()
    assert names(tmp_path) == ["c.jpg?width=200", "d.jpg.1", "photo", "sub/e.png_large"]
    # A file that is named is yielded once, whatever it holds.
    roots = [tmp_path, tmp_path / "photo", tmp_path / "Makefile", tmp_path / "Makefile"]
    assert names(tmp_path, *roots) == ["c.jpg?width=200", "d.jpg.1", "photo", "sub/e.png_large", "Makefile"]


def test_a_file_without_an_ending_is_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to("nowhere")
    skipped = SkippedFiles()
    assert names(tmp_path, skipped=skipped) == []
    assert skipped.by_ending == {"": 2}


def test_what_is_skipped_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.MOV", "x/c.mov", "d.dng", "e.txt", ".f.jpg", ".bashrc", "thumbs/g.jpg", "x/h_small.jpg")
    touch(tmp_path, ".git/i.jpg", "other/catalogue.db", "other/segments/1.vec", "other/j.mov")
    skipped = SkippedFiles()
    found = find_files([str(tmp_path)], exclude=["thumbs", "*_small.*"], skipped=skipped)
    assert [os.path.basename(file.path) for file in found] == ["a.jpg"]
    assert skipped == SkippedFiles({".mov": 2, ".dng": 1, ".txt": 1}, hidden=1, excluded=2)


def test_further_endings_are_those_of_images_too(tmp_path: Path) -> None:
    touch(tmp_path, "a.dng", "b.NEF", "c.mov")
    assert names(tmp_path) == []
    assert names(tmp_path, further_endings=frozenset({".dng", ".nef"})) == ["a.dng", "b.NEF"]


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(5, "Input/output error")])
def test_a_file_that_cannot_be_examined_is_not_missing(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def stat(path: str) -> os.stat_result:
        raise error

    monkeypatch.setattr(os, "stat", stat)
    assert not is_missing("/some/picture.png")
