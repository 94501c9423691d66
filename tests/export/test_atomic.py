"""Atomic writes: a file is replaced by a complete one or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from imgindex.export.atomic import replacing


def test_a_failed_write_leaves_the_file_and_its_folder_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(str(tmp_path / "a.csv")) as file:  # noqa: PT012
        file.write(b"half")
        raise ZeroDivisionError
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.csv", "before")]


def test_a_link_and_the_permissions_of_its_target_are_kept(tmp_path: Path) -> None:
    (tmp_path / "target.csv").write_text("before")
    (tmp_path / "target.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("target.csv")
    with replacing(str(tmp_path / "link.csv")) as file:
        file.write(b"after")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == "after"
    assert (tmp_path / "target.csv").stat().st_mode & 0o777 == 0o640


def test_a_new_file_has_the_permissions_that_open_would_give_it(tmp_path: Path) -> None:
    with replacing(str(tmp_path / "new.csv")) as file:
        file.write(b"x")
    (tmp_path / "other.csv").touch()
    assert (tmp_path / "new.csv").stat().st_mode == (tmp_path / "other.csv").stat().st_mode


def test_a_pipe_is_written_to_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    with replacing(str(tmp_path / "pipe")) as file:
        file.write(b"through")
    reader.join(60)
    assert seen == [b"through"]


def test_an_error_names_the_file_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing/a\.csv") as error, replacing(str(tmp_path / "missing/a.csv")):
        pass
    assert error.value.filename == str(tmp_path / "missing/a.csv")
