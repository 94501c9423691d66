"""Folders of links and copies: telling names, nothing of anybody else's touched, and a next run that goes on."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imgindex.reports.folders
from imgindex.errors import FolderNotOurs, UsageError
from imgindex.reports import naming
from imgindex.reports.folders import Arrangement, arrange
from imgindex.reports.manifest import NAME


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
    """What stands in each file of the folder, by its name."""
    files = (path for path in sorted(where.rglob("*")) if path.is_file() and path.name != NAME)
    return {str(path.relative_to(where)): path.read_text() for path in files}


def names(placed: Any) -> list[str]:
    return sorted(one.name for one in placed)


@pytest.mark.parametrize("copy", [False, True])
def test_each_group_has_a_folder_in_which_all_its_images_stand(tmp_path: Path, photos: Path, copy: bool) -> None:
    done = arrange(
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
    arrange(where, {"x": [str(photos / "oslo/d.jpg"), str(tmp_path / "far/f.jpg"), str(tmp_path / "alias/b.jpg")]})
    assert os.readlink(where / "x/d.jpg") == "../../oslo/d.jpg"
    assert os.readlink(where / "x/f.jpg") == str(tmp_path / "far/f.jpg")
    photos.rename(tmp_path / "moved")
    assert seen(tmp_path / "moved/sorted") == {"x/d.jpg": "oslo/d.jpg", "x/f.jpg": "far", "x/b.jpg": "rome/b.jpg"}


@pytest.mark.parametrize("copy", [False, True])
def test_the_next_run_changes_only_what_is_different(tmp_path: Path, photos: Path, copy: bool) -> None:
    where = tmp_path / "out"
    arrange(where, groups(photos, cats="paris/a.jpg rome/b.jpg", dogs="oslo/d.jpg"), copy=copy)
    before = (where / "cats/b.jpg").lstat()
    done = arrange(where, groups(photos, cats="rome/b.jpg rome/c.jpg"), copy=copy)
    assert (names(done.made), names(done.kept), names(done.removed)) == (
        ["cats/c.jpg"],
        ["cats/b.jpg"],
        ["cats/a.jpg", "dogs/d.jpg"],
    )
    assert (where / "cats/b.jpg").lstat().st_ino == before.st_ino
    assert sorted(path.name for path in where.iterdir()) == [NAME, "cats"]
    arrange(where, {}, copy=copy)
    assert list(where.iterdir()) == []
    assert len(list(photos.rglob("*.jpg"))) == 6


def test_links_give_place_to_copies_and_a_changed_image_is_copied_again(tmp_path: Path, photos: Path) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="rome/b.jpg")
    arrange(where, wanted)
    assert names(arrange(where, wanted, copy=True).made) == ["cats/b.jpg"]
    assert not (where / "cats/b.jpg").is_symlink()
    (photos / "rome/b.jpg").write_text("changed")
    assert names(arrange(where, wanted, copy=True).made) == ["cats/b.jpg"]
    assert seen(where) == {"cats/b.jpg": "changed"}


def test_what_somebody_else_put_there_stays_and_keeps_its_name(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    (where / "cats").mkdir(parents=True)
    (where / "cats/mine.txt").write_text("mine")
    (where / "Dogs").write_text("a file")
    done = arrange(where, groups(photos, cats="rome/b.jpg", dogs="oslo/d.jpg"))
    assert done.avoided == ("cats", "dogs")
    assert names(done.made) == ["cats (2)/b.jpg", "dogs (2)/d.jpg"]
    (where / "cats (2)/c.jpg").write_text("mine too")
    (where / "dogs (2)/d.jpg").unlink()
    (where / "dogs (2)/d.jpg").write_text("mine now")
    done = arrange(where, groups(photos, cats="rome/b.jpg rome/c.jpg"))
    assert done.avoided == ("cats", "cats (2)/c.jpg")
    assert names(done.made) == ["cats (2)/c (2).jpg"]
    arrange(where, {})
    assert seen(where) == {
        "cats/mine.txt": "mine",
        "Dogs": "a file",
        "cats (2)/c.jpg": "mine too",
        "dogs (2)/d.jpg": "mine now",
    }


def test_a_copy_that_was_edited_is_its_editors(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    arrange(where, groups(photos, cats="rome/b.jpg"), copy=True)
    (where / "cats/b.jpg").write_text("edited")
    done = arrange(where, groups(photos, cats="rome/b.jpg"), copy=True)
    assert seen(where) == {"cats/b.jpg": "edited", "cats/b (2).jpg": "rome/b.jpg"}
    assert done.avoided == ("cats/b.jpg",)


def test_a_dry_run_tells_the_same_and_makes_nothing(tmp_path: Path, photos: Path) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="paris/a.jpg rome/a.jpg")
    told = arrange(where, wanted, dry_run=True)
    assert not where.exists()
    assert told.made == arrange(where, wanted).made
    before = seen(where)
    assert names(arrange(where, {}, dry_run=True).removed) == sorted(before)
    assert seen(where) == before


def test_images_that_are_gone_are_failures_and_the_others_are_placed(tmp_path: Path, photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    done = arrange(tmp_path / "out", groups(photos, cats="rome/b.jpg gone.jpg pipe.jpg", ghosts="gone.jpg"), copy=True)
    assert [(Path(one.path).name, one.reason) for one in done.failures] == [
        ("gone.jpg", "No such file or directory"),
        ("pipe.jpg", "not a regular file"),
        ("gone.jpg", "No such file or directory"),
    ]
    assert seen(tmp_path / "out") == {"cats/b.jpg": "rome/b.jpg"}
    assert not (tmp_path / "out/ghosts").exists()


def test_names_of_groups_become_safe_and_odd_names_of_files_stay(tmp_path: Path, photos: Path) -> None:
    odd = [photos / "new\nline.jpg", photos / "quo'te\".jpg", photos / os.fsdecode(b"b\xffd.jpg")]
    for path in odd:
        path.write_text("odd")
    wanted = {name: [str(photos / "rome/b.jpg")] for name in ("a/b", "a_b", "A_B", "..", "", ".hidden", "x" * 300)}
    done = arrange(
        tmp_path / "out", {**wanted, "odd": list(map(str, odd)), "ta\tb\ud800": [str(photos / "rome/c.jpg")]}
    )
    folders = [one.name.partition("/")[0] for one in done.made if one.image.endswith("b.jpg")]
    assert folders == ["a_b", "a_b (2)", "A_B (3)", "_.", "_", "_hidden", "x" * 255]
    assert {path.name for path in (tmp_path / "out/odd").iterdir()} == {path.name for path in odd}
    assert (tmp_path / "out/ta_b_/c.jpg").is_symlink()
    done = arrange(tmp_path / "out", {"odd": list(map(str, odd))})
    assert (len(done.kept), len(done.made), len(done.removed)) == (3, 0, 8)


def test_images_that_lie_in_the_folder_itself_are_refused(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "alias").symlink_to(photos)
    with pytest.raises(UsageError, match="itself"):
        arrange(photos, {"x": [str(tmp_path / "alias/rome/b.jpg")]})
    with pytest.raises(UsageError, match="no folder"):
        arrange("", {})
    with pytest.raises(NotADirectoryError):
        arrange(photos / "rome/b.jpg", {})


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        json.dumps({"version": 2}),
        json.dumps({"version": 1, "folders": [".."], "made": {}}),
        json.dumps({"version": 1, "folders": ["x"], "made": {"x/../../photos/rome/b.jpg": {"source": "", "link": ""}}}),
        json.dumps({"version": 1, "folders": ["x"], "made": {"y/b.jpg": {"source": ""}}}),
    ],
)
def test_a_list_that_imgindex_did_not_write_is_not_believed(tmp_path: Path, photos: Path, text: str) -> None:
    where = tmp_path / "out"
    where.mkdir()
    (where / NAME).write_text(text)
    with pytest.raises(FolderNotOurs, match=NAME):
        arrange(where, groups(photos, cats="rome/b.jpg"))
    assert (where / NAME).read_text() == text
    assert len(list(photos.rglob("*.jpg"))) == 6


def test_a_folder_that_became_a_link_elsewhere_is_not_reached_through(tmp_path: Path, photos: Path) -> None:
    where = tmp_path / "out"
    arrange(where, groups(photos, cats="rome/b.jpg"), copy=True)
    (where / "cats").rename(tmp_path / "kept")
    (where / "cats").symlink_to(tmp_path / "kept")
    done = arrange(where, groups(photos, cats="rome/c.jpg"), copy=True)
    assert done.avoided == ("cats",)
    assert seen(tmp_path / "kept") == {"b.jpg": "rome/b.jpg"}


def test_after_a_full_disk_the_next_run_goes_on(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, wanted = tmp_path / "out", groups(photos, cats="rome/b.jpg rome/c.jpg oslo/d.jpg")
    rename = os.rename

    def full(source: str, target: str) -> None:
        if target.endswith("c.jpg"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)
        rename(source, target)

    monkeypatch.setattr(imgindex.reports.folders.os, "rename", full)
    with pytest.raises(OSError, match=r"No space left.*cats/c\.jpg"):
        arrange(where, wanted, copy=True)
    monkeypatch.undo()
    assert seen(where) == {"cats/b.jpg": "rome/b.jpg"}
    done = arrange(where, wanted, copy=True)
    assert (names(done.kept), names(done.made), done.avoided) == (["cats/b.jpg"], ["cats/c.jpg", "cats/d.jpg"], ())


def test_an_image_that_breaks_off_while_it_is_copied_leaves_nothing_half(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imgindex.reports.folders, "CHUNK", 4)
    opened = open

    class Broken:
        def __init__(self, file: Any) -> None:
            self.file, self.reads = file, 0

        def __enter__(self) -> Broken:
            return self

        def __exit__(self, *raised: object) -> None:
            self.file.close()

        def read(self, count: int) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self.file.read(count)

    def some_break(path: str, mode: str) -> Any:
        file = opened(path, mode)
        return Broken(file) if path.endswith("b.jpg") and mode == "rb" else file

    monkeypatch.setattr(imgindex.reports.folders, "open", some_break, raising=False)
    done = arrange(tmp_path / "out", groups(photos, cats="rome/b.jpg rome/c.jpg"), copy=True)
    assert [(Path(one.path).name, one.reason) for one in done.failures] == [("b.jpg", "Input/output error")]
    assert seen(tmp_path / "out") == {"cats/c.jpg": "rome/c.jpg"}
    assert not list((tmp_path / "out/cats").glob(".*"))


@given(
    paths=st.lists(st.lists(st.sampled_from(["a", "A", "a - a", "b", "x.jpg"]), min_size=1, max_size=4), max_size=30)
)
@settings(max_examples=200)
def test_all_images_of_a_group_get_different_names(paths: list[list[str]]) -> None:
    wanted = list(dict.fromkeys("/" + "/".join(parts) for parts in paths))
    taken: set[str] = set()
    chosen = [naming.free(name, taken, set()) for name in naming.telling(wanted).values()]
    assert len(chosen) == len(wanted) == len({naming.key(name) for name in chosen})
    assert all("/" not in name and len(os.fsencode(name)) <= 255 for name in chosen)


def test_an_arrangement_is_part_of_the_public_api() -> None:
    import imgindex

    assert imgindex.arrange is arrange
    assert imgindex.Arrangement is Arrangement
