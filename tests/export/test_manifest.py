"""The manifest of a folder of links or copies: what is ours, and which manifests are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgindex.errors import FolderNotOurs
from imgindex.export.manifest import Entry, Manifest, read
from imgindex.sources.exported import FOLDERS_MANIFEST


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
def test_a_manifest_that_imgindex_did_not_write_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLDERS_MANIFEST).write_text(text)
    with pytest.raises(FolderNotOurs, match=FOLDERS_MANIFEST):
        read(str(tmp_path))
    assert (tmp_path / FOLDERS_MANIFEST).read_text() == text


def test_only_what_is_still_as_it_was_written_is_ours(tmp_path: Path) -> None:
    entries = {name: Entry("/p/a.jpg", link="a") for name in ("x/link", "x/changed", "x/gone", "y/link")}
    entries |= {name: Entry("/p/a.jpg", size=3, mtime_ns=5 * 10**9) for name in ("x/copy", "x/edited")}
    Manifest({"x", "y"}, entries).write(str(tmp_path))
    (tmp_path / "x").mkdir()
    (tmp_path / "y").symlink_to("x")
    (tmp_path / "x/link").symlink_to("a")
    (tmp_path / "x/changed").symlink_to("b")
    for name, time in (("copy", 5), ("edited", 6)):
        (tmp_path / "x" / name).write_text("abc")
        os.utime(tmp_path / "x" / name, (time, time))
    found = read(str(tmp_path))
    assert found.folders == {"x"}
    assert found.entries == {name: entries[name] for name in ("x/link", "x/copy")}


def test_an_empty_or_missing_folder_is_accepted_and_another_is_not(tmp_path: Path) -> None:
    assert read(str(tmp_path / "missing")) == read(str(tmp_path)) == Manifest()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FolderNotOurs, match="files that imgindex did not write"):
        read(str(tmp_path))
    with pytest.raises(NotADirectoryError):
        read(str(tmp_path / "mine.txt"))
