"""Options that name files: - in each, the files of the user, and paths that a program can parse."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_commands import ARGUMENTS
from forking import Done, ForkServer
from page_files import page_data
from pictures import contents, draw

from imgindex.cli import files
from imgindex.cli.app import app

CALLS = {(command,): arguments for command, arguments in ARGUMENTS.items()} | {
    ("bench",): ["pictures", "--recipe", "vgg16-pool5", "--size", "32", "--images", "1"],
    ("cluster", "diff"): ["1", "1"],
    ("cluster", "evaluate"): ["--by-folder"],
    ("clusterings", "show"): ["1"],
    ("clusterings", "assign"): ["1"],
    ("clusterings", "delete"): ["1"],
    ("clusterings", "merge"): ["0", "1"],
    ("clusterings", "split"): ["0"],
    ("clusterings", "move"): ["pictures/0.png", "--to", "0"],
    ("clusterings", "undo"): ["1"],
    ("serve",): [],
}


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield the words of each command, and its parameters by their names."""
    if words:
        yield words, {parameter.name: parameter for parameter in command.params}
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from walk(subcommand, (*words, name))


COMMANDS = dict(walk(typer.main.get_command(app)))
WRITING = [(words, name) for words, found in COMMANDS.items() for name in files.OUTPUTS if name in found]
READING = [(words, name) for words, found in COMMANDS.items() for name in files.INPUTS if name in found]
# `clusterings move` needs several clusters: see test_clustering_edits.py.
LISTING = [
    (words, name)
    for words, found in COMMANDS.items()
    for name in files.LISTS
    if name in found and found[name].metavar in ("PATH", "IMAGE") and words != ("clusterings", "move")
]
# What these print changes from call to call.
CHANGING = {("add",), ("bench",), ("remove",), ("tag",), ("compact",)}
WITH_PATHS = [words for words, found in COMMANDS.items() if "paths" in getattr(found.get("format"), "help", "")]


def call(words: tuple[str, ...], *options: str | Path) -> list[str | Path]:
    """Return a call of a command, with options; its own --out is left out."""
    arguments = CALLS[words] if words != ("export",) else []
    return [*words, *arguments, *options]


def named(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def test_each_command_and_each_option_that_names_a_file_is_known() -> None:
    assert CALLS.keys() == COMMANDS.keys()
    known = files.OUTPUTS.keys() | files.INPUTS.keys() | files.FOLDERS.keys() | files.JOURNALS.keys()
    known |= set(files.LISTS)
    for words, parameters in COMMANDS.items():
        for name, parameter in parameters.items():
            metavar = parameter.metavar or ""
            if metavar.startswith(("FILE", "CSV", "PATH", "IMAGE")) or (metavar == "DIR" and name != "index"):
                assert name in known, (words, name)
        writes = parameters.keys() & (files.OUTPUTS.keys() | files.FOLDERS.keys())
        assert bool(writes) == ("overwrite" in parameters), words


# - is stdout


@pytest.mark.parametrize(("words", "name"), WRITING, ids=named)
def test_a_dash_is_stdout(server: ForkServer, three: Path, words: tuple[str, ...], name: str) -> None:
    before = {path.name for path in three.iterdir()}
    done = server.run(*call(words, files.OUTPUTS[name], "-"), folder=three)
    assert done.code == 0, done
    assert {path.name for path in three.iterdir()} == before
    start = {"html": b"<!doctype html>", "sheet": b"\x89PNG"}.get(name, b"")
    assert done.stdout.startswith(start)
    assert done.stdout.endswith({"html": b"</html>\n", "sheet": b"IEND\xaeB`\x82"}.get(name, b"\n")) or words in (
        ("verify",),
        ("repair",),
    )
    if words == ("export",):
        assert done.stdout.startswith(b"id,path,v0,")
    elif name == "out" and "like" in COMMANDS[words]:
        assert done.stdout.startswith(b"ImageID,label\n")
    elif name == "out":
        assert done.stdout == server.run(*call(words), folder=three).stdout or words in CHANGING


def test_two_options_cannot_share_stdout(server: ForkServer, three: Path) -> None:
    for options, message in (
        (["--html", "-", "--sheet", "-"], "--html and --sheet cannot both"),
        (["--html", "-", "--json"], "no room on stdout"),
        (["--out", "-", "--sheet", "/dev/stdout"], "--out and --sheet cannot both"),
    ):
        done = server.run("outliers", *options, folder=three)
        assert (done.code, done.stdout) == (2, b"")
        assert message in done.stderr
    done = server.run("outliers", "--html", "-", "--out", "answer.json", folder=three)
    assert done.stdout.startswith(b"<!doctype html>")
    assert json.loads((three / "answer.json").read_bytes())


def test_a_reader_of_a_page_that_leaves_early_is_not_an_error(three: Path) -> None:
    command = f"{sys.executable} -m imgindex outliers --html - | head -c 1"
    shell = ["bash", "-o", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=three, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"<", b"")


def test_stdout_that_a_shell_appends_to_a_file_does_not_empty_it(three: Path) -> None:
    (three / "log").write_text("before\n")
    for option in ("list --format paths --out /dev/stdout", "export --out -", "outliers -q --html /dev/stdout"):
        shell = f"{sys.executable} -m imgindex {option} >> log"
        subprocess.run(["bash", "-c", shell], cwd=three, check=True)
    lines = (three / "log").read_text().splitlines()
    assert lines[:2] == ["before", "pictures/0.png"]
    assert lines[4].startswith("id,path")
    assert lines[-1] == "</html>"


def test_a_page_for_stdout_links_to_the_images_from_the_current_folder(server: ForkServer, three: Path) -> None:
    page = server.run("outliers", "--html", "-", folder=three).stdout.decode()
    assert "pictures/0.png" in [item[-1] for item in page_data(page)["items"]]


# - is stdin

CONTENT = {
    "like": b"ImageID,label\n2,0\n0,0\n1,0\n",
    "truth": b"ImageID,class\n0,a\n1,a\n2,b\n",
    "csv": b"ImageID,year\n0,1969\n",
    "source": b"pictures/0.png\n",
}
WITHOUT = {("cluster", "evaluate"): [], ("similar",): [], ("tag",): []}


@pytest.mark.parametrize(("words", "name"), READING, ids=named)
def test_a_dash_is_stdin(server: ForkServer, three: Path, words: tuple[str, ...], name: str) -> None:
    (three / "input").write_bytes(CONTENT.get(name, b""))
    arguments = WITHOUT.get(words, CALLS[words])
    done = server.run(*words, *arguments, files.INPUTS[name], "-", folder=three, stdin=str(three / "input"))
    if name == "weights":
        assert done.code == 2
        assert "read more than once" in done.stderr
        return
    assert done.code == 0, done
    assert done.stdout
    closed = server.run(*words, *arguments, files.INPUTS[name], "-", folder=three, closed=(0,))
    assert closed.code == 2
    assert "stdin is closed" in closed.stderr


@pytest.mark.parametrize(("words", "name"), LISTING, ids=named)
@pytest.mark.parametrize("end", [b"\n", b"\0"], ids=["by line", "by NUL"])
def test_a_dash_among_paths_is_a_list_on_stdin(
    server: ForkServer, three: Path, words: tuple[str, ...], name: str, end: bytes
) -> None:
    (three / "list").write_bytes(b"pictures/0.png" + end + b"pictures/1.png" + end)
    others = {("tag",): ["cat"], ("bench",): CALLS["bench",][1:]}.get(words, [])
    null = ["-0"] if end == b"\0" else []
    done = server.run(*words, *others, "-", *null, "--json", folder=three, stdin=str(three / "list"))
    assert done.code == 0, done
    assert json.loads(done.stdout)


def test_stdin_is_read_once(server: ForkServer, three: Path) -> None:
    (three / "list").write_bytes(b"pictures/0.png\n")
    done = server.run("similar", "-", "--from", "-", folder=three, stdin=str(three / "list"))
    assert (done.code, done.stdout) == (2, b"")
    assert "stdin can be read only once" in done.stderr


# the files of the user


@pytest.mark.parametrize(("words", "name"), WRITING, ids=named)
@pytest.mark.parametrize("kind", ["foreign", "image", "name of an image", "link", "index"])
def test_no_option_replaces_a_file_that_imgindex_did_not_write(
    server: ForkServer, three: Path, words: tuple[str, ...], name: str, kind: str
) -> None:
    endings = {"html": "html", "sheet": "png"}
    target = {
        "foreign": f"mine.{endings.get(name, 'csv')}",
        "image": "pictures/0.png",
        "name of an image": "pictures/new.png",
        "link": f"link.{endings.get(name, 'csv')}",
        "index": f".imgindex/new.{endings.get(name, 'csv')}",
    }[kind]
    (three / "mine.csv").write_text("ImageID,label\n0,7\n")
    (three / "mine.html").write_text("<p>mine</p>")
    draw(three / "mine.png", 7)
    (three / "link.csv").symlink_to("pictures/0.png")
    (three / "link.html").symlink_to("mine.html")
    (three / "link.png").symlink_to("pictures/0.png")
    before = contents(three)
    done = server.run(*call(words, files.OUTPUTS[name], target), folder=three)
    if name == "sheet" and kind == "name of an image":
        assert done.code == 0, done
        return
    assert (done.code, done.stdout) == (2, b""), done
    assert target in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert contents(three) == before
    if kind == "foreign":
        done = server.run(*call(words, files.OUTPUTS[name], target, "--overwrite"), folder=three)
        assert done.code == 0, done
        # A sound index gives these two nothing to write.
        assert contents(three)[target] != before[target] or words in (("verify",), ("repair",))


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_an_image_may_be_replaced_by_those_who_ask_for_it(server: ForkServer, three: Path, option: str) -> None:
    arguments = ["outliers", option, "pictures/0.png", "--format", "csv", "--overwrite"]
    assert server.run(*arguments, folder=three).code == 0
    assert not (three / "pictures/0.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("words", "name"), [pair for pair in WRITING if pair[0] != ("bench",)], ids=named)
def test_the_same_command_writes_its_files_again_and_again(
    server: ForkServer, three: Path, words: tuple[str, ...], name: str
) -> None:
    if words == ("remove",):
        pytest.skip("it removes an image once")
    endings = {"html": "html", "sheet": "png"}
    for _ in range(2):
        done = server.run(*call(words, files.OUTPUTS[name], f"ours.{endings.get(name, 'csv')}"), folder=three)
        assert done.code == 0, done


def test_a_submission_is_written_again_and_a_sample_of_the_same_form_is_not(server: ForkServer, three: Path) -> None:
    (three / "sample_submission.csv").write_text("ImageID,label\n0,0\n1,0\n2,0\n")
    (three / "train.csv").write_text("ImageID,class,year\n0,cat,1969\n")
    for k in ("1", "2"):
        assert server.run("cluster", "-k", k, "--out", "submission.csv", folder=three).code == 0
    # What the first clustering wrote has the same bytes as the sample.
    for name in ("sample_submission.csv", "train.csv"):
        before = (three / name).read_bytes()
        done = server.run("cluster", "-k", "2", "--out", name, folder=three)
        assert (done.code, (three / name).read_bytes()) == (2, before)
    done = server.run("cluster", "-k", "2", "--like", "sample_submission.csv", "--out", "submission.csv", folder=three)
    assert done.code == 0, done


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["cluster", "-k", "1", "--like", "table.csv", "--out", "table.csv"],
        ["clusterings", "show", "1", "--like", "table.csv", "--html", "./table.csv"],
        ["cluster", "evaluate", "--truth", "table.csv", "--out", "link.csv"],
        ["tag", "--csv", "table.csv", "--out", "pictures/../table.csv"],
        ["similar", "--from", "table.csv", "--out", "table.csv"],
        ["similar", "pictures/0.png", "--sheet", "pictures/0.png"],
        ["lookup", "pictures/0.png", "--out", "pictures/0.png", "--format", "csv"],
        ["outliers", "--html", "a.html", "--out", "./a.html", "--format", "csv"],
    ],
    ids=" ".join,
)
def test_a_file_that_is_read_or_written_already_is_never_a_target(
    server: ForkServer, three: Path, arguments: list[str], overwrite: list[str]
) -> None:
    (three / "table.csv").write_bytes(CONTENT["like"])
    (three / "link.csv").symlink_to("table.csv")
    before = contents(three)
    done = server.run(*arguments, *overwrite, folder=three)
    assert (done.code, done.stdout) == (2, b""), done
    assert "name another file" in done.stderr or "name two files" in done.stderr
    assert contents(three) == before


@pytest.mark.parametrize("option", files.FOLDERS.values())
def test_a_folder_of_the_user_is_refused_before_the_work(server: ForkServer, three: Path, option: str) -> None:
    (three / "mine").mkdir()
    (three / "mine/notes").write_text("mine")
    before = contents(three)
    for target in ("mine", "pictures", "pictures/0.png", "new.jpg"):
        done = server.run("cluster", "-k", "1", option, target, folder=three)
        assert (done.code, done.stdout) == (2, b""), done
        assert contents(three) == before
    assert server.run("cluster", "-k", "1", option, "mine", "--overwrite", folder=three).code == 0
    assert (three / "mine/notes").read_text() == "mine"
    assert len(list((three / "mine/0").iterdir())) == 3


def test_a_folder_that_does_not_exist_is_reported_before_the_work(server: ForkServer, three: Path) -> None:
    done = server.run("cluster", "-k", "2", "--out", "nowhere/a.csv", folder=three)
    assert (done.code, done.stderr) == (1, "imgindex: error: No such file or directory: nowhere/a.csv\n")
    assert len(json.loads(server.run("clusterings", "--json", folder=three).stdout)) == 1


# paths that a program can parse

NASTY = ("new\nline.png", "tab\there.png", "-0.png", ' "quoted".png', os.fsdecode(b"caf\xe9.png"))


@pytest.fixture(scope="module")
def nasty(server: ForkServer, templates: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, a copy of the first under each nasty name, and a clustering of all."""
    folder = shutil.copytree(templates[3], tmp_path_factory.mktemp("nasty"), dirs_exist_ok=True)
    for name in NASTY:
        shutil.copy(folder / "pictures/0.png", folder / "pictures" / name)
    (folder / "pictures/bad\nfile.png").write_text("no picture")
    assert server.run("add", "pictures", folder=folder).code == 3
    assert server.run("cluster", "-k", "1", folder=folder).code == 0
    return folder


PRINTING = {
    ("list",): [],
    ("failures",): [],
    ("similar",): ["pictures/0.png"],
    ("lookup",): ["pictures"],
    ("cluster",): ["-k", "1", "--id", "path"],
    ("clusterings", "show"): ["2", "--id", "path"],
    ("duplicates",): ["--exact"],
    ("outliers",): [],
    ("leak",): ["pictures", "pictures"],
}


def printed(server: ForkServer, folder: Path, words: tuple[str, ...], *options: str) -> Done:
    return server.run(*words, *PRINTING[words], *options, folder=folder)


def names(data: bytes, end: bytes) -> list[str]:
    assert data.endswith(end) or not data
    return [os.fsdecode(line) for line in data.split(end)[:-1]]


@pytest.mark.parametrize("words", PRINTING, ids=named)
def test_paths_are_separated_by_nul_or_a_newline_in_a_name_is_refused(
    server: ForkServer, nasty: Path, words: tuple[str, ...]
) -> None:
    by_nul = printed(server, nasty, words, "--format", "paths", "-0")
    every = names(by_nul.stdout, b"\0")
    assert by_nul.code == (3 if words == ("lookup",) else 0)
    assert every or words == ("lookup",)
    assert all((nasty / name).is_file() for name in every)
    by_line = printed(server, nasty, words, "--format", "paths")
    broken = [name for name in every if "\n" in name]
    assert names(by_line.stdout, b"\n") == [name for name in every if "\n" not in name]
    assert by_line.code == (3 if broken else by_nul.code)
    for name in broken:
        assert name.replace("\n", "\\n") in by_line.stderr
        assert "use -0" in by_line.stderr
    quoted = printed(server, nasty, words, "--json")
    for name in every:
        assert json.dumps(name, ensure_ascii=False).encode("utf-8", "backslashreplace") in quoted.stdout


@pytest.mark.parametrize("words", [words for words in PRINTING if words not in {("cluster",), ("lookup",)}], ids=named)
def test_each_line_of_tsv_is_a_row_and_csv_has_every_row(
    server: ForkServer, nasty: Path, words: tuple[str, ...]
) -> None:
    whole = printed(server, nasty, words, "--format", "csv")
    every = list(csv.reader(io.StringIO(whole.stdout.decode("utf-8", "surrogateescape"), newline=""), strict=True))
    tsv = printed(server, nasty, words, "--format", "tsv")
    lines = tsv.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]
    good = [row for row in every if not any("\n" in value or "\t" in value for value in row)]
    assert [len(line.split("\t")) for line in lines] == [len(every[0])] * len(good)
    assert list(csv.reader(lines, delimiter="\t", strict=True)) == good
    assert tsv.code == (3 if len(good) < len(every) else whole.code)
    assert ("new\\nline" in tsv.stderr) == any("new\nline" in value for row in every for value in row)


def test_a_file_of_paths_has_the_same_rules(server: ForkServer, nasty: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.txt"
    assert server.run("list", "--out", out, folder=nasty).code == 3
    assert len(out.read_bytes().splitlines()) == 7
    assert server.run("list", "--out", out, "-0", folder=nasty).code == 0
    assert len(names(out.read_bytes(), b"\0")) == 8


def test_streamed_answers_name_what_they_leave_out(server: ForkServer, nasty: Path) -> None:
    done = server.run("similar", "pictures/0.png", "pictures/1.png", "--format", "paths", folder=nasty)
    assert done.code == 3
    assert done.stderr.count("new\\nline.png") == 2


def test_the_clean_up_of_the_documentation_moves_copies_alone(nasty: Path, tmp_path: Path) -> None:
    shutil.copytree(nasty, tmp_path / "it")
    draw(tmp_path / "it/line.png", 9)
    (tmp_path / "it/bin").mkdir()
    (tmp_path / "it/bin/imgindex").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m imgindex "$@"\n')
    (tmp_path / "it/bin/imgindex").chmod(0o755)
    (command,) = [
        line.strip()
        for line in (Path(__file__).parents[2] / "docs/duplicates.md").read_text(encoding="utf-8").splitlines()
        if "xargs -0" in line and "--format paths" in line
    ]
    (tmp_path / "it/bin/trash").write_text('#!/bin/sh\nmkdir -p away\nmv -t away -- "$@"\n')
    (tmp_path / "it/bin/trash").chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "it/bin"), os.environ["PATH"]])
    subprocess.run(["bash", "-c", command], cwd=tmp_path / "it", env={**os.environ, "PATH": path}, check=True)
    assert (tmp_path / "it/line.png").exists()
    assert len(list((tmp_path / "it/away").iterdir())) == 5
    assert (tmp_path / "it/pictures").is_dir()


@pytest.mark.parametrize("words", [words for words in COMMANDS if "format" in COMMANDS[words]], ids=named)
def test_every_command_has_paths_with_nul_or_refuses_the_format(
    server: ForkServer, three: Path, words: tuple[str, ...]
) -> None:
    arguments = ["--out", "vectors.npz"] if words == ("export",) else []
    done = server.run(*call(words, *arguments, "--format", "paths", "-0"), folder=three)
    if words in WITH_PATHS:
        assert done.code == 0, done
        assert b"\n" not in done.stdout
        return
    assert done.code == 2
    assert "No such option" in done.stderr or "no paths" in done.stderr
    done = server.run(*call(words, "--format", "paths"), folder=three)
    assert done.code == 2
    assert "this answer has no paths" in done.stderr


def test_nul_is_refused_where_it_has_no_effect(server: ForkServer, three: Path) -> None:
    for arguments in (["list", "-0"], ["lookup", "pictures", "-0"], ["list", "-0", "--format", "paths", "--json"]):
        done = server.run(*arguments, folder=three)
        assert (done.code, done.stdout) == (2, b"")
        assert "-0 has no effect" in done.stderr
