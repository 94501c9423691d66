"""Which source a path belongs to, and what all rooms find, read and look up through it."""

from __future__ import annotations

from pathlib import Path

from pictures import draw

from imgindex.sources.registry import CHUNK, LOCAL, find_files, gone, has_image_content, is_gone, look, source_of
from imgindex.types import FoundFile


def test_the_path_of_a_file_belongs_to_this_machine(tmp_path: Path) -> None:
    assert source_of(str(tmp_path / "a.jpg")) is LOCAL


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
    missing = [str(tmp_path / f"{number}.png") for number in range(2 * CHUNK + 1)]
    asked = [*missing[:CHUNK], str(tmp_path / "a.png"), *missing[CHUNK:]]
    assert sorted(gone(asked)) == sorted(missing)
    assert is_gone(missing[0])
    assert not is_gone(asked[CHUNK])


def test_an_image_is_recognised_by_its_first_bytes(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 1).rename(tmp_path / "a")
    (tmp_path / "b").write_text("plain text")
    found = [has_image_content(str(tmp_path / name)) for name in "abc"]
    assert found == [True, False, None]
