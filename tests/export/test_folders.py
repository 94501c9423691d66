"""Folders of links and copies: names, the next run, and files of the user, which stay as they are."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import imgindex.export.folders
from imgindex.errors import FolderNotOurs, UsageError
from imgindex.export.folders import LinkedFolders, link_folders
from imgindex.sources.exported import FOLDERS_MANIFEST


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six files in three folders, two of them with one name."""
    for name in ("paris/a.jpg", "rome/a.jpg", "rome/b.jpg", "rome/c.jpg", "oslo/d.jpg", "oslo/e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, ns=(0, 1_500_000_000_123_456_789))
    return tmp_path / "photos"


def groups(photos: Path, **names: str) -> dict[str, list[str]]:
    return {group: [str(photos / name) for name in files.split()] for group, files in names.items()}


def seen(where: Path) -> dict[str, str]:
    """The text of each file of the folder, by its name."""
    files = (path for path in sorted(where.rglob("*")) if path.is_file() and path.name != FOLDERS_MANIFEST)
    return {str(path.relative_to(where)): path.read_text() for path in files}


def names(placed: Any) -> list[str]:
    return sorted(one.name for one in placed)


@pytest.mark.parametrize("copy", [False, True])
def test_each_group_gets_a_folder_with_all_its_images(tmp_path: Path, photos: Path, copy: bool) -> None:
    done = link_folders(
        tmp_path / "out", groups(photos, cats="paris/a.jpg rome/a.jpg rome/b.jpg", dogs="oslo/d.jpg"), copy=copy
    )
    assert seen(tmp_path / "out") == {
        "cats/paris - a.jpg": "paris/a.jpg",
        "cats/rome - a.jpg": "rome/a.jpg",
        "cats/b.jpg": "rome/b.jpg",
        "dogs/d.jpg": "oslo/d.jpg",
    }
    assert names(done.made) == sorted(seen(tmp_path / "out"))
    assert {path.is_symlink() for path in (tmp_path / "out").glob("*/*")} == {not copy}
    assert {path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/*")} == {1_500_000_000_123_456_789}
    assert {str(photos / seen(tmp_path / "out")[one.name]) for one in done.made} == {one.image for one in done.made}


def test_links_move_with_the_folder_that_holds_both_and_are_absolute_elsewhere(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/f.jpg").write_text("far")
    (tmp_path / "alias").symlink_to(photos / "rome")
    where = photos / "sorted"
    link_folders(where, {"x": [str(photos / "oslo/d.jpg"), str(tmp_path / "far/f.jpg"), str(tmp_path / "alias/b.jpg")]})
    assert os.readlink(where / "x/d.jpg") == "../../oslo/d.jpg"
    assert os.readlink(where / "x/f.jpg") == str(tmp_path / "far/f.jpg")
    photos.rename(tmp_path / "moved")
    assert seen(tmp_path / "moved/sorted") == {"x/d.jpg": "oslo/d.jpg", "x/f.jpg": "far", "x/b.jpg": "rome/b.jpg"}


@pytest.mark.parametrize("copy", [False, True])
def test_the_next_run_changes_only_what_is_different(tmp_path: Path, photos: Path, copy: bool) -> None:
    where = tmp_path / "out"
    link_folders(where, groups(photos, cats="paris/a.jpg rome/b.jpg", dogs="oslo/d.jpg"), copy=copy)
    before = (where / "cats/b.jpg").lstat()
    done = link_folders(where, groups(photos, cats="rome/b.jpg rome/c.jpg"), copy=copy)
    assert (names(done.made), names(done.kept), names(done.removed)) == (
        ["cats/c.jpg"],
        ["cats/b.jpg"],
        ["cats/a.jpg", "dogs/d.jpg"],
    )
    assert (where / "cats/b.jpg").lstat().st_ino == before.st_ino
    assert sorted(path.name for path in where.iterdir()) == [FOLDERS_MANIFEST, "cats"]
    link_folders(where, {}, copy=copy)
    assert list(where.iterdir()) == []
    assert len(list(photos.rglob("*.jpg"))) == 6


def test_copies_replace_links_and_a_changed_image_is_copied_again(tmp_path: Path, photos: Path) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="rome/b.jpg")
    link_folders(where, wanted)
    assert names(link_folders(where, wanted, copy=True).made) == ["cats/b.jpg"]
    assert not (where / "cats/b.jpg").is_symlink()
    (photos / "rome/b.jpg").write_text("changed")
    assert names(link_folders(where, wanted, copy=True).made) == ["cats/b.jpg"]
    assert seen(where) == {"cats/b.jpg": "changed"}


def test_a_folder_that_imgindex_did_not_fill_is_refused_and_left_as_it_is(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    where.mkdir()
    (where / "mine.txt").write_text("mine")
    for dry_run in (True, False):
        with pytest.raises(FolderNotOurs, match="files that imgindex did not write"):
            link_folders(where, groups(photos, cats="rome/b.jpg"), dry_run=dry_run)
    assert list(where.iterdir()) == [where / "mine.txt"]
    (where / "mine.txt").unlink()
    assert names(link_folders(where, groups(photos, cats="rome/b.jpg")).made) == ["cats/b.jpg"]


@pytest.mark.parametrize("copy", [False, True])
def test_files_that_the_user_puts_beside_ours_stay(tmp_path: Path, photos: Path, copy: bool) -> None:
    where = tmp_path / "out"
    link_folders(where, groups(photos, cats="rome/b.jpg", dogs="oslo/d.jpg"), copy=copy)
    for name in ("notes.txt", "cats/notes.txt", "dogs/notes.txt"):
        (where / name).write_text("mine")
    (where / "dogs/d.jpg").unlink()
    (where / "dogs/d.jpg").write_text("mine")
    done = link_folders(where, groups(photos, cats="rome/c.jpg"), copy=copy)
    assert (names(done.made), names(done.removed)) == (["cats/c.jpg"], ["cats/b.jpg"])
    link_folders(where, {}, copy=copy)
    assert set(seen(where)) == {"notes.txt", "cats/notes.txt", "dogs/notes.txt", "dogs/d.jpg"}
    assert set(seen(where).values()) == {"mine"}
    done = link_folders(where, groups(photos, cats="rome/b.jpg"), copy=copy)
    assert names(done.made) == ["cats/b.jpg"]


@pytest.mark.parametrize("name", ["cats", "dogs/d.jpg", "dogs/b.jpg"])
def test_a_file_of_the_user_under_a_needed_name_is_an_error_before_anything_is_changed(
    tmp_path: Path, photos: Path, name: str
) -> None:
    where = tmp_path / "out"
    link_folders(where, groups(photos, dogs="rome/b.jpg rome/c.jpg"), copy=True)
    (where / name).unlink(missing_ok=True)
    (where / name).write_text("mine")
    before = seen(where)
    wanted = groups(photos, cats="rome/b.jpg", dogs="rome/b.jpg oslo/d.jpg")
    for copy in (True, False):
        with pytest.raises(FolderNotOurs, match=f"out/{name} is needed") as error:
            link_folders(where, wanted, copy=copy)
        assert "move these files away" in error.value.hint
    assert seen(where) == before
    (where / name).rename(tmp_path / "away")
    link_folders(where, wanted)
    assert set(seen(where)) == {"cats/b.jpg", "dogs/b.jpg", "dogs/d.jpg"}


def test_a_copy_that_was_edited_belongs_to_the_user(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    link_folders(where, groups(photos, cats="rome/b.jpg"), copy=True)
    (where / "cats/b.jpg").write_text("edited")
    with pytest.raises(FolderNotOurs, match=r"cats/b\.jpg"):
        link_folders(where, groups(photos, cats="rome/b.jpg"), copy=True)
    assert link_folders(where, {}).removed == ()
    assert seen(where) == {"cats/b.jpg": "edited"}


def test_a_dry_run_returns_the_same_and_writes_nothing(tmp_path: Path, photos: Path) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="paris/a.jpg rome/a.jpg")
    dry = link_folders(where, wanted, dry_run=True)
    assert not where.exists()
    assert dry.made == link_folders(where, wanted).made
    before = seen(where)
    assert names(link_folders(where, {}, dry_run=True).removed) == sorted(before)
    assert seen(where) == before


def test_missing_images_are_failures_and_the_others_are_copied(tmp_path: Path, photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    done = link_folders(
        tmp_path / "out", groups(photos, cats="rome/b.jpg gone.jpg pipe.jpg", ghosts="gone.jpg"), copy=True
    )
    assert [(Path(one.path).name, one.reason) for one in done.failures] == [
        ("gone.jpg", "No such file or directory"),
        ("pipe.jpg", "not a regular file"),
        ("gone.jpg", "No such file or directory"),
    ]
    assert seen(tmp_path / "out") == {"cats/b.jpg": "rome/b.jpg"}
    assert not (tmp_path / "out/ghosts").exists()


def test_names_of_groups_become_safe_and_file_names_are_kept(tmp_path: Path, photos: Path) -> None:
    odd = [photos / "new\nline.jpg", photos / "quo'te\".jpg", photos / os.fsdecode(b"b\xffd.jpg")]
    for path in odd:
        path.write_text("odd")
    wanted = {name: [str(photos / "rome/b.jpg")] for name in ("a/b", "a_b", "A_B", "..", "", ".hidden", "x" * 300)}
    done = link_folders(
        tmp_path / "out", {**wanted, "odd": list(map(str, odd)), "ta\tb\ud800": [str(photos / "rome/c.jpg")]}
    )
    folders = [one.name.partition("/")[0] for one in done.made if one.image.endswith("b.jpg")]
    assert folders == ["a_b", "a_b (2)", "A_B (3)", "_.", "_", "_hidden", "x" * 255]
    assert {path.name for path in (tmp_path / "out/odd").iterdir()} == {path.name for path in odd}
    assert (tmp_path / "out/ta_b_/c.jpg").is_symlink()
    done = link_folders(tmp_path / "out", {"odd": list(map(str, odd))})
    assert (len(done.kept), len(done.made), len(done.removed)) == (3, 0, 8)


def test_images_in_the_folder_itself_are_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "alias").symlink_to(photos)
    with pytest.raises(UsageError, match="itself"):
        link_folders(photos, {"x": [str(tmp_path / "alias/rome/b.jpg")]})
    with pytest.raises(UsageError, match="the path '' is empty"):
        link_folders("", {})
    with pytest.raises(NotADirectoryError):
        link_folders(photos / "rome/b.jpg", {})


def test_a_folder_that_became_a_link_is_not_followed(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    link_folders(where, groups(photos, cats="rome/b.jpg"), copy=True)
    (where / "cats").rename(tmp_path / "kept")
    (where / "cats").symlink_to(tmp_path / "kept")
    with pytest.raises(FolderNotOurs, match="cats is needed"):
        link_folders(where, groups(photos, cats="rome/c.jpg"), copy=True)
    assert link_folders(where, {}).removed == ()
    assert seen(tmp_path / "kept") == {"b.jpg": "rome/b.jpg"}


def test_the_next_run_continues_after_a_full_disk(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="rome/b.jpg rome/c.jpg oslo/d.jpg")
    rename = os.rename

    def full(source: str, target: str) -> None:
        if target.endswith("c.jpg"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        rename(source, target)

    monkeypatch.setattr(imgindex.export.folders.os, "rename", full)
    with pytest.raises(OSError, match=r"No space left.*cats/c\.jpg"):
        link_folders(where, wanted, copy=True)
    monkeypatch.undo()
    assert seen(where) == {"cats/b.jpg": "rome/b.jpg"}
    done = link_folders(where, wanted, copy=True)
    assert (names(done.kept), names(done.made)) == (["cats/b.jpg"], ["cats/c.jpg", "cats/d.jpg"])


def test_an_image_that_cannot_be_read_to_its_end_leaves_no_partial_copy(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.export.folders, "CHUNK", 4)

    @contextmanager
    def some_break(path: str) -> Iterator[Any]:
        def read_part(offset: int, length: int) -> bytes:
            if offset and path.endswith("b.jpg"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return Path(path).read_bytes()[offset : offset + length]

        yield read_part

    monkeypatch.setattr(imgindex.export.folders, "parts", some_break)
    done = link_folders(tmp_path / "out", groups(photos, cats="rome/b.jpg rome/c.jpg"), copy=True)
    assert [(Path(one.path).name, one.reason) for one in done.failures] == [("b.jpg", "Input/output error")]
    assert seen(tmp_path / "out") == {"cats/c.jpg": "rome/c.jpg"}
    assert [path.name for path in (tmp_path / "out").rglob(".*")] == [FOLDERS_MANIFEST]


def test_link_folders_is_part_of_the_public_api() -> None:
    import imgindex

    assert imgindex.link_folders is link_folders
    assert imgindex.LinkedFolders is LinkedFolders
