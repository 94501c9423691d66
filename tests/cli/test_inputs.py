"""Paths that a command reads from stdin."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from forking import Run
from pictures import draw
from small_recipe import SMALL

from imgindex.cli.inputs import _split
from imgindex.errors import UsageError


def test_paths_are_read_from_stdin_by_line_or_nul(run: Run, folder: Path, tmp_path: Path) -> None:
    lines = "pictures/a/0.png\npictures/a/1.png\n"
    first = run("add", "-", *SMALL, "--json", stdin=None, input=lines)
    assert json.loads(first.stdout)["added"] == 2
    draw(folder / "new\nline.png", 50)
    second = run("add", "-0", "-", "--json", stdin=None, input="pictures/new\nline.png\0pictures/b/6.png\0")
    assert json.loads(second.stdout)["added"] == 2


LISTS = {
    "CRLF": b"pictures/a/0.png\r\npictures/a/1.png\r\n",
    "the mark of UTF-8": b"\xef\xbb\xbfpictures/a/0.png\npictures/a/1.png",
    "UTF-16 of PowerShell": "pictures/a/0.png\r\npictures/a/1.png\r\n".encode("utf-16"),
    "UTF-16 of the other order": b"\xfe\xff" + "pictures/a/0.png\npictures/a/1.png\n".encode("utf-16-be"),
    "empty lines": b"\n\npictures/a/0.png\n\r\n\npictures/a/1.png\n\n",
    "NUL": b"pictures/a/0.png\0pictures/a/1.png\0",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_systems_are_read(name: str) -> None:
    found = list(_split(io.BytesIO(LISTS[name]), null=name == "NUL"))
    assert found == ["pictures/a/0.png", "pictures/a/1.png"]


def test_a_name_that_looks_like_a_mark_or_ends_in_cr_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (b"\xff\xfex.png", b"y.png\r", b"\xef\xbb\xbfz.png"):
        Path(os.fsdecode(name)).touch()
        (found,) = _split(io.BytesIO(name + b"\n"), null=False)
        assert os.fsencode(found) == name
        (found,) = _split(io.BytesIO(name + b"\0"), null=True)
        assert os.fsencode(found) == name


@pytest.mark.parametrize("text", [b"a.png\0b.png\0", "a.png\nb.png\n".encode("utf-16-le"), b"\xff\xfea\0\0\xd8"])
def test_a_list_with_nuls_or_in_a_broken_encoding_is_explained(text: bytes) -> None:
    with pytest.raises(UsageError) as caught:
        list(_split(io.BytesIO(text), null=False))
    assert "UTF-8" in caught.value.hint


def test_lines_come_as_soon_as_they_are_complete() -> None:
    end, start = os.pipe()
    with os.fdopen(end, "rb") as file, os.fdopen(start, "wb", buffering=0) as writer:
        lines = _split(file, null=False)
        for name in (b"a.png", b"b.png"):
            writer.write(name + b"\n")
            assert next(lines) == name.decode()


def test_paths_are_normalised_by_whichever_way_they_come(run: Run, folder: Path, tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "IMGINDEX_DIR": "~/an/../x.imgindex"}
    (tmp_path / "an").mkdir()
    (tmp_path / "link").symlink_to("pictures")
    assert json.loads(run("add", "~/pictures", *SMALL, "--json", env=env).stdout)["added"] == 12
    assert (tmp_path / "x.imgindex/catalogue.db").is_file()
    lists = (b"~/link/a/0.png\r\n", b"\xef\xbb\xbf//%b/pictures/../link/a/0.png\n" % os.fsencode(tmp_path))
    for text in lists:
        (tmp_path / "list.txt").write_bytes(text)
        added = run("add", "-", "--json", env=env, stdin=None, input=text.decode())
        assert json.loads(added.stdout)["unchanged"] == 1, added.stderr
        for command in (["similar", "--from", "~/list.txt"], ["similar", "~/link/a/0.png"]):
            found = json.loads(run(*command, "-n", "20", "--json", env=env).stdout)
            assert len(found[0]["matches"]) == 11, "the image itself is not among its matches"
    (tmp_path / "q.jsonl").write_bytes(b'\xef\xbb\xbf{"query": "~/pictures/a/0.png"}\r\n')
    assert len(json.loads(run("similar", "--from", "q.jsonl", "--json", env=env).stdout)[0]["matches"]) == 10
    (tmp_path / "s.csv").write_text("\ufeffImageID,label\r\n" + "".join(f"{number},\r\n" for number in range(12)))
    done = run("cluster", "-k", "2", "--like", "~/s.csv", "--out", "~/labels.csv", env=env)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "labels.csv").is_file()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["similar", ""], "the path '' is empty"),
        (["similar", "pictures"], "it is a folder"),
        (["similar", "."], "it is a folder"),
        (["add", ""], "the path '' is empty"),
        (["lookup", ""], "the path '' is empty"),
        (["remove", ""], "the path '' is empty"),
        (["tag", "x", ""], "the path '' is empty"),
        (["tag", "--csv", ""], "the path '' is empty"),
        (["leak", "", "pictures"], "the path '' is empty"),
        (["list", "--where", ""], "it is empty"),
        (["similar", "pictures/0.png", "--where", " "], "it is empty"),
        (["list", "--out", ""], "--out '' names no file"),
        (["export", "--out", ""], "''"),
        (["list", "--index", ""], "--index '' names no folder"),
        (["similar", "--from", ""], "the path '' is empty"),
        (["cluster", "-k", "1", "--like", ""], "''"),
        (["cluster", "-k", "1", "--html", ""], "''"),
        (["cluster", "-k", "1", "--link-to", ""], "''"),
        (["cluster", "evaluate", "--truth", ""], "''"),
        (["add", "pictures", "--weights", ""], "''"),
    ],
)
def test_empty_names_and_folders_in_the_place_of_images_are_explained(
    command: list[str], words: str, run: Run, three: Path
) -> None:
    done = run(*command, cwd=three)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "unexpected" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
