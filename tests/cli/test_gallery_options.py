"""Pages, contact sheets and thumbnails of the command line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from forking import ForkServer, Run
from page_files import page_data
from pictures import contents
from PIL import Image


@contextmanager
def terminal() -> Iterator[tuple[str, list[str]]]:
    """A terminal of 80 columns that is read while it is written on: its name, and what stood there in the end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    blocks: list[bytes] = []
    seen: list[str] = []

    def read() -> None:
        with suppress(OSError):
            while block := os.read(master, 65536):
                blocks.append(block)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield os.ttyname(slave), seen
    finally:
        os.close(slave)
        reader.join()
        os.close(master)
        seen.append(b"".join(blocks).decode())


COMMANDS = {"similar": ["similar", "pictures/0.png"], "outliers": ["outliers"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_and_a_sheet_are_written_besides_the_answer(server: ForkServer, three: Path, command: str) -> None:
    plain = server.run(*COMMANDS[command], folder=three)
    before = contents(three / ".imgindex")
    done = server.run(*COMMANDS[command], "--html", "page.html", "--sheet", "sheet.png", folder=three)
    assert (done.code, done.stdout) == (0, plain.stdout)
    page, sheet = done.stderr.splitlines()
    assert re.fullmatch(r"page in page\.html \(\d+\.\d kB\)", page)
    assert sheet == "contact sheet in sheet.png"
    data = page_data(three / "page.html")
    assert sum(bool(picture) for picture, _, _ in data["pictures"]) == 3
    assert data["kind"] == {"similar": "matches"}.get(command, command)
    assert data["legend"]
    with Image.open(three / "sheet.png") as sheet:
        assert sheet.width > 400
    assert contents(three / ".imgindex") == before
    quiet = server.run(*COMMANDS[command], "--html", "page.html", "-q", "--json", folder=three)
    assert (quiet.code, quiet.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--html", ""], "--html '' names no file"),
        (["--sheet", ""], "--sheet '' names no file"),
        (["--sheet", "a.jpg"], "end the name in .png"),
        (["--preview-as", "ascii"], "kitty, blocks"),
    ],
    ids=str,
)
def test_names_and_kinds_that_cannot_be_are_wrong_usage(
    server: ForkServer, three: Path, command: str, options: list[str], message: str
) -> None:
    before = contents(three)
    done = server.run(*COMMANDS[command], *options, folder=three)
    assert done.code == 2, done
    assert message in done.stderr
    assert done.stdout == b""
    assert contents(three) == before


@pytest.mark.parametrize("option", ["--html", "--sheet"])
def test_where_nothing_can_be_written_it_is_an_error_in_one_line(server: ForkServer, three: Path, option: str) -> None:
    done = server.run("outliers", option, "nowhere/page.png", folder=three)
    assert done.code == 1
    assert done.stderr == "imgindex: error: No such file or directory: nowhere/page.png\n"
    assert done.stdout == b""


def test_images_that_are_gone_are_on_the_page_as_such(server: ForkServer, three: Path) -> None:
    (three / "pictures/1.png").unlink()
    done = server.run("similar", "pictures/0.png", "--html", "page.html", "--sheet", "s.png", folder=three)
    assert done.code == 0, done
    pictures = page_data(three / "page.html")["pictures"]
    assert sum(bool(picture) for picture, _, _ in pictures) == 2
    assert [reason for picture, reason, _ in pictures if not picture] == ["No such file or directory"]


def test_a_query_that_cannot_be_read_is_on_the_page(server: ForkServer, three: Path) -> None:
    (three / "bad.jpg").write_text("no picture")
    done = server.run("similar", "bad.jpg", "pictures/0.png", "--html", "page.html", "-q", folder=three)
    assert done.code == 3, done
    failures = [query["failure"] for query in page_data(three / "page.html")["queries"]]
    assert "not an image" in failures[0]
    assert failures[1] == ""


def test_names_of_any_bytes_come_onto_pages_and_sheets(server: ForkServer, three: Path) -> None:
    name = os.fsdecode(b"pictures/<b>\n\xff'\".png")
    (three / "pictures/1.png").rename(three / name)
    assert server.run("add", "pictures", folder=three).code == 0
    done = server.run("similar", name, "--html", "p.html", "--sheet", "s.png", folder=three)
    assert done.code == 0, done
    page = (three / "p.html").read_bytes()
    assert b"pictures/%3Cb%3E%0A%FF%27%22.png" in page
    assert b"<b>" not in page


@pytest.mark.parametrize("command", COMMANDS)
def test_an_index_without_images_gives_a_page_that_says_so(
    server: ForkServer, templates: dict[int, Path], tmp_path: Path, command: str
) -> None:
    done = server.run(
        *(["outliers"] if command == "outliers" else ["similar", str(templates[3] / "pictures/0.png")]),
        *("--index", templates[0] / ".imgindex", "--html", "page.html", "--sheet", "s.png"),
        folder=tmp_path,
    )
    assert done.code == 0, done
    data = page_data(tmp_path / "page.html")
    if command == "similar":
        assert [(query["failure"], query["matches"]) for query in data["queries"]] == [("", [])]
    else:
        assert data["empty"] == "No outliers among 0 images"


def test_without_a_terminal_a_remark_explains_that_there_are_no_thumbnails(server: ForkServer, three: Path) -> None:
    plain = server.run("outliers", folder=three)
    done = server.run("outliers", "--preview", folder=three)
    assert (done.code, done.stdout) == (0, plain.stdout)
    assert "stdout is not a terminal" in done.stderr
    done = server.run("outliers", "--preview-as", "kitty", "--json", folder=three)
    assert done.code == 0
    assert done.stdout.startswith(b"[")
    assert "needs a table on stdout" in done.stderr


@pytest.mark.parametrize(
    ("options", "environment", "sign"),
    [
        (["--preview"], {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TMUX": None}, "▀"),
        (["--preview"], {"TERM": "xterm-kitty", "TMUX": None}, "\x1b_Ga=T"),
        (["--preview-as", "kitty"], {"TERM": "xterm-256color"}, "\x1b_Ga=T"),
    ],
    ids=str,
)
def test_thumbnails_stand_above_the_table_in_a_terminal(
    server: ForkServer, three: Path, options: list[str], environment: dict[str, str | None], sign: str
) -> None:
    with terminal() as (name, seen):
        done = server.run("similar", "pictures/0.png", *options, folder=three, stdout=name, environment=environment)
    assert done.code == 0, done
    assert sign in seen[0]
    assert seen[0].index(sign) < seen[0].index("distance")
    assert "1.png" in seen[0]


def test_a_terminal_without_colours_shows_no_thumbnails(server: ForkServer, three: Path) -> None:
    with terminal() as (name, seen):
        done = server.run("outliers", "--preview", folder=three, stdout=name, environment={"TERM": "dumb"})
    assert done.code == 0
    assert "\x1b" not in seen[0]
    assert "shows no colours" in done.stderr


def test_ctrl_c_leaves_no_half_page_and_no_traceback(server: ForkServer, three: Path) -> None:
    asked = ["outliers", "--html", "page.html", "--sheet", "sheet.png"]
    calls = server.run(*asked, folder=three, interrupt_at=10**9).calls
    codes = set()
    for moment in range(4):
        for name in ("page.html", "sheet.png"):
            (three / name).unlink(missing_ok=True)
        done = server.run(*asked, folder=three, interrupt_at=calls * (2 * moment + 1) // 8)
        codes.add(done.code)
        assert done.code in (0, 130), done
        assert "Traceback" not in done.stderr.replace("Exception ignored", "")
        assert [name for name in os.listdir(three) if name.startswith(".imgindex-")] == []
        if (three / "page.html").exists():
            assert (three / "page.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert 130 in codes


def test_clusters_and_duplicates_have_pages_and_contact_sheets(run: Run, here: Path) -> None:
    run("cluster", "-k", "3")
    run("label", "0", "<b>roses</b>")
    name = "\\u003cb\\u003eroses\\u003c/b\\u003e"
    for arguments, words in (
        (["cluster", "-k", "2..4", "--map", "pca,tsne"], [name, '"tsne":{"x":', '"stability":']),
        (["clusterings", "show", "1"], [name, '"pca":{"x":']),
        (["duplicates", "--similar", "--distance", "0.5"], ['"how":"kept"', '"how":"similar"', '["grades",']),
    ):
        result = run(*arguments, "--html", "page.html", "--sheet", "sheet.png", "--preview")
        assert result.returncode == 0, result.stderr
        page = (here / "page.html").read_text(encoding="utf-8")
        assert [word for word in words if word not in page.split('id="data">')[1].split("</script>")[0]] == []
        assert (here / "sheet.png").stat().st_size > 1000
        assert "not a terminal" in result.stderr
    wrong = run("cluster", "-k", "2", "--html", "page.html", "--map", "mds")
    assert wrong.returncode == 2
    assert "pca, pacmap, umap, tsne" in wrong.stderr
