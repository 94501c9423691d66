"""The paths of members: which archive they lie in, and that no name leads out of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgindex.sources.archives.names import member_path, split


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("cat/1.jpg", "cat/1.jpg"),
        ("./cat/1.jpg", "cat/1.jpg"),
        ("/etc/passwd.jpg", "etc/passwd.jpg"),
        ("../../a.jpg", "%2E%2E/%2E%2E/a.jpg"),
        ("a//b/./c.jpg", "a/b/c.jpg"),
        ("a\nb.jpg", "a\nb.jpg"),
        ("a\0b.jpg", "a%00b.jpg"),
        ("...jpg", "...jpg"),
        ("/", ""),
    ],
)
def test_a_name_stays_below_its_archive(name: str, path: str) -> None:
    assert member_path(name) == path


@given(st.text(alphabet="./a\0\n%é\udc80", max_size=20))
def test_no_name_leads_out_of_its_archive(name: str) -> None:
    path = member_path(name)
    assert "\0" not in path
    assert os.path.normpath(f"/x/set.zip/{path}") == f"/x/set.zip/{path}".rstrip("/")


def test_only_a_file_can_be_an_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip/b").mkdir(parents=True)
    (tmp_path / "a.zip/b.TAR.gz").write_bytes(b"")
    base = str(tmp_path / "a.zip")
    assert split(f"{base}/b/c.jpg") is None
    assert split(f"{base}/b.TAR.gz/x.zip/c.jpg") == (f"{base}/b.TAR.gz", "x.zip/c.jpg")
    assert split(f"{base}/b.TAR.gz") is None
    assert split(f"{base}/gone.zip/c.jpg") is None
