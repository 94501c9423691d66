"""Which source a path belongs to, and what all rooms find, read and look up through it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from archived import pack
from pictures import draw

from imgindex.errors import SourceUnavailable, UnreadableImage
from imgindex.sources import registry
from imgindex.sources.base import Content
from imgindex.sources.registry import (
    ARCHIVES,
    AT_ONCE,
    LOCAL,
    exists,
    find_files,
    gone,
    hash_file,
    have_image_content,
    is_folder,
    is_gone,
    is_own_file,
    is_unchanged,
    look,
    parts,
    read_ahead,
    source_of,
)
from imgindex.types import FoundFile


def test_the_path_of_a_file_belongs_to_this_machine(tmp_path: Path) -> None:
    assert source_of(str(tmp_path / "a.jpg")) is LOCAL


def test_an_address_belongs_to_the_source_of_its_scheme(tmp_path: Path) -> None:
    schemes = ("s3", "gs", "az", "file", "http", "https")
    assert [type(source_of(f"{scheme}://place/a.jpg")).__name__ for scheme in schemes] == [
        *["ObjectSource"] * 4,
        *["WebSource"] * 2,
    ]


class Far:
    """A source on another machine, which answers when several requests are under way."""

    is_far = True

    def __init__(self, together: int) -> None:
        self._barrier = threading.Barrier(together, timeout=20)

    def read(self, path: str) -> Content:
        self._barrier.wait()
        if path.endswith("unreadable"):
            raise UnreadableImage("it is not there", stage="read")
        if path.endswith("away"):
            raise SourceUnavailable("it does not answer")
        return Content(path.encode(), b"", 1, 0)


def read_all(*paths: str) -> list[bytes | str | None]:
    read = read_ahead(FoundFile(path, 1, 0) for path in paths)
    return [content.data if isinstance(content, Content) else content and content.reason for _, content in read]


def test_files_of_other_machines_are_read_ahead_by_many_requests_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "source_of", lambda path: far if path.startswith("far") else LOCAL)
    far = Far(together=8)
    paths = [f"far/{number}" for number in range(7)]
    assert read_all("/a.jpg", *paths, "far/unreadable", "/b.jpg") == [
        None, *(path.encode() for path in paths), "it is not there", None,
    ]  # fmt: skip


def test_reading_ahead_ends_where_a_source_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "source_of", lambda path: far)
    far = Far(together=2)
    with pytest.raises(SourceUnavailable, match="does not answer"):
        read_all("far/1", "far/away")


def test_reading_ahead_keeps_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "source_of", lambda path: far)
    monkeypatch.setattr(registry, "FAR_BYTES", 10)
    far, taken = Far(together=1), []

    def files() -> Iterator[FoundFile]:
        for number in range(50):
            taken.append(number)
            yield FoundFile(f"far/{number}", 4, 0)

    read = read_ahead(files())
    next(read)
    assert len(taken) == 3
    assert len(list(read)) == 49


def test_what_is_looked_up_has_the_numbers_of_what_is_found(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    (found,) = find_files([str(tmp_path)])
    assert isinstance(found, FoundFile)
    seen = look(found.path)
    assert seen is not None
    assert (seen.path, seen.size, seen.mtime_ns, seen.ctime_ns) == (
        found.path,
        found.size,
        found.mtime_ns,
        found.ctime_ns,
    )
    assert look(str(tmp_path / "b.png")) is None


def test_paths_without_a_file_are_gone_however_many_are_asked_for(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1)
    missing = [str(tmp_path / f"{number}.png") for number in range(2 * AT_ONCE + 1)]
    asked = [*missing[:AT_ONCE], str(tmp_path / "a.png"), *missing[AT_ONCE:]]
    assert sorted(gone(asked)) == sorted(missing)
    assert is_gone(missing[0])
    assert not is_gone(asked[AT_ONCE])


def test_an_image_is_recognised_by_its_first_bytes(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1).rename(tmp_path / "a")
    (tmp_path / "b").write_text("plain text")
    found = list(have_image_content([str(tmp_path / name) for name in "abc"]))
    assert found == [True, False, None]


def test_a_path_in_an_archive_belongs_to_the_archives(tmp_path: Path) -> None:
    archive = pack(tmp_path / "stored.zip", {"a/1.png": b"data", "2.png": b"more"})
    paths = [str(tmp_path), str(archive), f"{archive}/a", f"{archive}/a/1.png", f"{archive}/3.png"]
    assert [source_of(path) is ARCHIVES for path in paths] == [False, False, True, True, True]
    assert [is_own_file(path) for path in paths] == [True, True, False, False, False]
    assert [is_folder(path) for path in paths] == [True, True, True, False, False]
    assert [exists(path) for path in paths] == [True, True, True, True, False]


def test_a_part_of_a_file_is_read_from_any_source(tmp_path: Path) -> None:
    archive = pack(tmp_path / "deflated.zip", {"1.png": b"0123456789"})
    (tmp_path / "1.png").write_bytes(b"0123456789")
    for path in (tmp_path / "1.png", archive / "1.png"):
        with parts(str(path)) as read_part:
            assert (read_part(2, 3), read_part(8, 9), read_part(20, 1)) == (b"234", b"89", b"")


def test_a_file_is_unchanged_until_it_is_written_anew(tmp_path: Path) -> None:
    archive = pack(tmp_path / "stored.zip", {"1.png": b"data", "2.png": b"data"})
    (tmp_path / "1.png").write_bytes(b"data")
    for path in (str(tmp_path / "1.png"), f"{archive}/1.png"):
        read = hash_file(path)
        assert is_unchanged(path, read)
        pack(archive, {"1.png": b"dato"})
        (tmp_path / "1.png").write_bytes(b"dato")
        assert not is_unchanged(path, read)
