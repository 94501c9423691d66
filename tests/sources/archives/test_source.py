"""Archives as a source: found, read, looked up and gone like files in a folder."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from archived import KINDS, TARS, Zip, files_below, pack

from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources.archives import source
from imgindex.sources.registry import (
    ARCHIVES,
    check_root,
    find_files,
    gone,
    hash_file,
    is_own_file,
    look,
    read_ahead,
    read_content,
    source_of,
)
from imgindex.sources.selection import SkippedFiles
from imgindex.types import Failure, FoundFile, UnnamedFile


def found(*roots: Path, **options: Any) -> dict[str, FoundFile | Failure]:
    base = os.path.commonpath([path.parent for path in roots])
    return {os.path.relpath(one.path, base): one for one in find_files(map(str, roots), **options)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_is_found_and_read_like_a_file(folder: Path, tmp_path: Path, kind: str) -> None:
    files = files_below(folder)
    path = pack(tmp_path / f"set{kind}", files)
    members = found(path)
    assert list(members) == [f"{path.name}/{name}" for name in files]
    for name, data in files.items():
        at = f"{path}/{name}"
        content = read_content(at)
        assert (content.data, content.sha256) == (data, hashlib.sha256(data).digest())
        assert content.file_at(at) == members[f"{path.name}/{name}"] == look(at)
        assert source_of(at) is ARCHIVES
        assert hash_file(at).sha256 == content.sha256
    assert not is_own_file(f"{path}/a/0.png")
    assert is_own_file(str(path))


def test_two_members_are_two_files(tmp_path: Path) -> None:
    path = pack(tmp_path / "stored.zip", {"a.jpg": b"data", "b.jpg": b"data"})
    numbers = {(read.device, read.inode) for read in map(hash_file, (f"{path}/a.jpg", f"{path}/b.jpg"))}
    assert len(numbers) == 2


def test_members_are_passed_over_by_the_rules_of_folders(tmp_path: Path) -> None:
    names = [
        "a.jpg",
        ".b.jpg",
        ".git/c.jpg",
        "__MACOSX/d.jpg",
        "small/e.jpg",
        "f.txt",
        "g",
        "h/i.png",
        "x.imgindex/1.jpg",
    ]
    path = pack(tmp_path / "stored.zip", dict.fromkeys(names, b"data"))
    skipped = SkippedFiles()
    members = found(path, exclude=["small", "h/*.png"], skipped=skipped)
    assert list(members) == ["stored.zip/a.jpg", "stored.zip/g"]
    assert isinstance(members["stored.zip/g"], UnnamedFile)
    assert (skipped.hidden, skipped.excluded, skipped.by_ending) == (1, 2, {".txt": 1})


def test_a_folder_and_a_member_of_an_archive_can_be_roots(tmp_path: Path) -> None:
    names = ["cat/1.jpg", "cat/.2.jpg", "cats/3.jpg", "note.txt"]
    path = pack(tmp_path / "stored.zip", dict.fromkeys(names, b"data"))
    assert list(find_files([f"{path}/cat"])) == [look(f"{path}/cat/1.jpg")]
    assert list(find_files([f"{path}/note.txt"])) == [look(f"{path}/note.txt")]
    both = [one.path for one in find_files([f"{path}/cat", str(path), f"{path}/cat/1.jpg"])]
    assert both == [f"{path}/cat/1.jpg", f"{path}/cats/3.jpg"]
    for root in (path, path / "cat", path / "note.txt"):
        check_root(str(root))
    for root in (path / "ca", path / "cat/2.jpg", tmp_path / "gone.zip"):
        with pytest.raises(OSError, match=r"nothing of this name|No such file"):
            check_root(str(root))


def test_archives_in_folders_are_searched_if_asked_for(tmp_path: Path) -> None:
    pack(tmp_path / "photos/b.zip", {"1.jpg": b"data", "inner.zip": b"data"})
    pack(tmp_path / "photos/a/c.tar.gz", {"2.jpg": b"data"})
    (tmp_path / "photos/d.zip").mkdir()
    (tmp_path / "photos/d.zip/3.jpg").write_bytes(b"data")
    (tmp_path / "other.zip").symlink_to("photos/b.zip")
    (tmp_path / "photos/link.zip").symlink_to("b.zip")
    skipped = SkippedFiles()
    assert list(found(tmp_path / "photos", skipped=skipped)) == ["photos/d.zip/3.jpg"]
    assert skipped.by_ending == {".zip": 2, ".tar.gz": 1}
    members = found(tmp_path / "photos", archives=True)
    assert sorted(members) == ["photos/a/c.tar.gz/2.jpg", "photos/b.zip/1.jpg", "photos/d.zip/3.jpg"]
    assert list(found(tmp_path / "other.zip")) == ["other.zip/1.jpg"]
    named = found(tmp_path / "photos", tmp_path / "photos/b.zip")
    assert sorted(named) == ["photos/b.zip/1.jpg", "photos/d.zip/3.jpg"]


@pytest.mark.parametrize("kind", KINDS)
def test_members_are_gone_when_a_complete_list_lacks_them(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"set{kind}", {"1.jpg": b"data" * 2000, "2.jpg": b"more"})
    paths = [f"{path}/{name}.jpg" for name in "12"]
    assert list(gone(paths)) == []
    pack(path, {"2.jpg": b"more", "3.jpg": b"data"})
    assert list(gone(paths)) == paths[:1]
    path.write_bytes(path.read_bytes()[: 700 if kind == ".tar" else -10])
    assert list(gone(paths)) == []
    path.unlink()
    assert list(gone(paths)) == paths


def test_an_archive_that_cannot_be_listed_is_a_failure_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    path.write_bytes(b"no zip")
    (failure,) = found(path).values()
    assert isinstance(failure, Failure)
    assert (failure.path, failure.stage, failure.size) == (str(path), "find", 6)
    assert "no end of a zip" in failure.reason
    check_root(f"{path}/unknown")


def test_the_members_before_the_damage_are_found_and_the_archive_is_a_failure(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.tar", {"1.jpg": b"data", "2.jpg": b"data"})
    path.write_bytes(path.read_bytes()[:1500])
    one, failure = found(path).values()
    assert isinstance(one, FoundFile)
    assert isinstance(failure, Failure)
    assert read_content(one.path).data == b"data"


def test_an_unreadable_member_is_found_and_fails_when_it_is_read(tmp_path: Path) -> None:
    made = Zip()
    made.add(b"link.jpg", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    made.add(b"a.jpg", b"data")
    link, member = found(made.write(tmp_path / "a.zip")).values()
    with pytest.raises(UnreadableImage, match="it is a link"):
        read_content(link.path)
    assert isinstance(link, FoundFile)
    # A member that can be read under this name later has another version, even with the same checksum.
    assert (link.version or "").endswith("; it is a link")
    assert read_content(member.path).data == b"data"


def test_many_unreadable_members_are_one_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MOST_PROBLEMS", 3)
    path = pack(tmp_path / "stored.zip", {f"{number}.jpg": b"" for number in range(10)})
    *named, failure = found(path).values()
    assert len(named) == 3
    assert isinstance(failure, Failure)
    assert failure.reason == "7 further members cannot be read; the last one: file is empty"


def test_overlapping_members_are_unreadable(tmp_path: Path) -> None:
    made = Zip()
    at = made.local(b"a.jpg", b"data")
    for name in (b"a.jpg", b"b.jpg"):
        made.entry(name, at, 4, 4, 1)
    made.add(b"c.jpg", b"data")
    path = made.write(tmp_path / "a.zip")
    for letter in "ab":
        with pytest.raises(UnreadableImage, match="shares bytes"):
            read_content(f"{path}/{letter}.jpg")
    assert read_content(f"{path}/c.jpg").data == b"data"


def test_what_an_archive_lacks_is_unreadable_and_a_missing_archive_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(tmp_path / "stored.zip", {"1.jpg": b"data"})
    with pytest.raises(UnreadableImage, match="no such member"):
        read_content(f"{path}/2.jpg")
    assert look(f"{path}/2.jpg") is None
    with pytest.raises(UnreadableImage, match="more than the limit"):
        read_content(f"{path}/1.jpg", max_bytes=3)
    monkeypatch.setattr(ARCHIVES, "_listing", lambda archive: os.stat(tmp_path / "gone"))
    with pytest.raises(SourceUnavailable, match="cannot read"):
        read_content(f"{path}/1.jpg")
    assert look(f"{path}/1.jpg") is None


@pytest.mark.parametrize("ending", [ending for ending in TARS if ending != ".tar"])
def test_the_members_of_a_compressed_tar_are_read_in_order_ahead(tmp_path: Path, ending: str) -> None:
    files = {f"{number}.jpg": os.urandom(5000) for number in range(50)}
    path = pack(tmp_path / f"set{ending}", files)
    own = tmp_path / "own.jpg"
    own.write_bytes(b"data")
    members = [one for one in find_files([str(own), str(path)]) if isinstance(one, FoundFile)]
    first, *others = read_ahead(members)
    assert first == (members[0], None)
    data = {os.path.basename(file.path): getattr(content, "data", None) for file, content in others}
    assert data == files
    # The last one was reached: the file is not kept open.
    assert ARCHIVES._unpacker is None


@pytest.mark.parametrize("ending", [ending for ending in TARS if ending != ".tar"])
def test_no_member_of_a_damaged_compressed_tar_is_believed(tmp_path: Path, ending: str) -> None:
    path = pack(tmp_path / f"set{ending}", {f"{number}.jpg": os.urandom(5000) for number in range(50)})
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    # The checksum behind the last member is wrong: any of them may have the damage.
    (failure,) = found(path).values()
    assert isinstance(failure, Failure)
    assert "compressed bytes are damaged" in failure.reason
    with pytest.raises(UnreadableImage, match="compressed bytes are damaged"):
        read_content(f"{path}/0.jpg")
    ((_, content),) = read_ahead([FoundFile(f"{path}/0.jpg", 5000, 0)])
    assert isinstance(content, UnreadableImage)


def test_an_archive_that_is_rewritten_is_listed_again(tmp_path: Path) -> None:
    path = pack(tmp_path / "stored.zip", {"1.jpg": b"data"})
    before = look(f"{path}/1.jpg")
    pack(path, {"0.jpg": b"more", "1.jpg": b"data"})
    assert look(f"{path}/1.jpg") == before
    pack(path, {"1.jpg": b"dato"})
    assert look(f"{path}/1.jpg") != before
    assert read_content(f"{path}/1.jpg").data == b"dato"


def test_a_tar_that_is_rewritten_has_other_members(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.tar", {"1.jpg": b"data"})
    before = look(f"{path}/1.jpg")
    assert before == look(f"{path}/1.jpg")
    pack(path, {"1.jpg": b"dato"})
    assert look(f"{path}/1.jpg") != before


def test_an_archive_that_changes_while_it_is_searched_is_a_failure_and_nothing_breaks(tmp_path: Path) -> None:
    files = {f"{number}.jpg": b"data" for number in range(2000)}
    path = pack(tmp_path / "stored.zip", files)
    search = find_files([str(path)])
    first = next(search)
    pack(path, {"1.jpg": b"data"})
    assert read_content(f"{path}/1.jpg").data == b"data"
    with pytest.raises(UnreadableImage, match="no such member"):
        read_content(first.path)
    *_, failure = search
    assert isinstance(failure, Failure)
    assert (failure.path, failure.reason) == (str(path), "the archive changed while it was read")
