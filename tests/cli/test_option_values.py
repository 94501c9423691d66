"""Wrong numbers, unknown names, odd samples, files that cannot be written: refused in few words, nothing changed."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from cli_commands import KEEPERS
from forking import Done, ForkServer
from pictures import contents, draw

BIG = str(10**9)
ADD, SIMILAR, CLUSTER = ["add", "pictures"], ["similar", "pictures/0.png"], ["cluster", "-k", "2"]
USAGE = 2
REFUSED = [
    *((["cluster", "-k", k], USAGE) for k in ("0", "-1", "1.5", "nan", "", "two", "1e3", "5..2", "1..3", "2..", "..4")),
    (["cluster", "-k", BIG], 1),
    (["cluster", "-k", str(10**30)], 1),
    (["cluster"], USAGE),
    *(([*CLUSTER, "--seed", seed], USAGE) for seed in ("-1", "x", "0.5")),
    *(([*CLUSTER, "--restarts", n], USAGE) for n in ("0", "-1")),
    *(([*CLUSTER, "--iterations", n], USAGE) for n in ("0", "-1")),
    ([*CLUSTER, "--id", "inode"], USAGE),
    *(([*CLUSTER, "--like", name], USAGE) for name in ("absent.csv", "pictures", "")),
    *(([*SIMILAR, "-n", n], USAGE) for n in ("0", "-1", "1.5", "nan")),
    *(([*SIMILAR, "--max-distance", distance], USAGE) for distance in ("nan", "-1", "-inf", "far", "")),
    (["similar"], USAGE),
    (["similar", ""], USAGE),
    (["similar", "absent.png"], 1),
    (["similar", "pictures"], 1),
    *(([*ADD, "--batch-size", n], USAGE) for n in ("0", "-1", "1.5")),
    *(([*ADD, "--workers", n], USAGE) for n in ("0", "-1", "1000000")),
    *(([*ADD, "--size", size], 1) for size in ("0", "-32", "33", BIG, "64")),
    ([*ADD, "--size", "1.5"], USAGE),
    ([*ADD, "--recipe", "vgg19"], 1),
    ([*ADD, "--recipe", ""], 1),
    *(([*ADD, "--store", store], 1) for store in ("fp8", "fp16", "")),
    *(([*command, "--device", name], USAGE) for command in (ADD, SIMILAR) for name in ("tpu", "cuda:x", "", "CPU")),
    *(([*command, "--precision", name], USAGE) for command in (ADD, SIMILAR) for name in ("fp8", "")),
    (["add"], USAGE),
    (["add", ""], USAGE),
    (["add", "pictures", ""], USAGE),
    (["add", "absent"], 1),
    (["add", "x" * 256], 1),
    (["add", "x/" * 3000], 1),
    (["add", "-0", "pictures"], USAGE),
    (["remove", ""], USAGE),
    (["remove", "pictures/0.png", ""], USAGE),
    (["remove", "absent"], 1),
    (["remove"], USAGE),
    *(([command, "--format", "xml"], USAGE) for command in ("list", "status", "failures", "verify")),
    *(([command, "--out", "", "--format", "csv"], USAGE) for command in ("list", "status", "failures", "verify")),
    (["list", "--out", "list.xml"], USAGE),
    (["export", "--out", "vectors.xml"], USAGE),
    (["export", "--out", ""], USAGE),
    (["export"], USAGE),
    *((["duplicates", "--similar", "--distance", distance], USAGE) for distance in ("nan", "inf", "-1", "near")),
    (["duplicates", "--keep", "prettiest"], USAGE),
    (["duplicates", "--dry-run"], USAGE),
    (["duplicates", "--link-to", ""], USAGE),
    (["duplicates", "--link-to", "pictures/0.png"], USAGE),
    (["lookup"], USAGE),
    (["lookup", ""], USAGE),
    (["lookup", "absent"], 1),
    (["lookup", "pictures", "--similar", "--distance", "nan"], USAGE),
    (["leak", "pictures"], USAGE),
    (["leak", "pictures", "absent"], 1),
    (["leak", "pictures", ""], USAGE),
    (["leak", "pictures", "pictures", "-n", "0"], USAGE),
    (["leak", "pictures", "pictures", "--fail-within", "nan"], USAGE),
    (["leak", "pictures", "pictures", "--fail-within", "nan"], USAGE),
    (["frobnicate"], USAGE),
    (["list", "--frobnicate"], USAGE),
    (["list", "surplus"], USAGE),
    ([], USAGE),
]
# For an index that is to be made: all of it must be right, or nothing is made.
REFUSED_ANEW = [
    *((["--size", size], USAGE) for size in ("0", "-32", "33", BIG)),
    (["--recipe", "vgg19"], USAGE),
    (["--recipe", "article", "--size", "64"], USAGE),
    (["--recipe", "vgg16-pool5", "--store", "fp8"], USAGE),
    (["--device", "tpu"], USAGE),
    (["--precision", "fp8"], USAGE),
    (["--recipe", "vgg16-pool5", "--weights", "absent.pth"], 1),
    (["--recipe", "vgg16-pool5", "--weights", "pictures"], 1),
    (["--recipe", "vgg16-pool5", "--weights", "random:x"], USAGE),
    (["--recipe", "vgg16-pool5", "--weights", "pictures/0.png"], 1),
]
ACCEPTED = [
    [*SIMILAR, "-n", BIG],
    [*SIMILAR, "--max-distance", "inf"],
    [*SIMILAR, "--max-distance", "0"],
    [*CLUSTER, "--seed", str(2**64)],
    [*CLUSTER, "--iterations", BIG],
    [*ADD, "--batch-size", BIG],
    [*ADD, "--exclude", ""],
]


def words(value: object) -> str:
    return " ".join(value)[:60] if isinstance(value, list) else f"ends with {value}"


def one_line(done: Done, code: int) -> str:
    """Assert that a command ended with this code, and return what it printed: one line, or the parser's few."""
    assert (done.code, done.stdout) == (code, b""), done
    assert "Traceback" not in done.stderr
    assert "run again with --debug" not in done.stderr
    if not done.stderr.startswith("imgindex: error: "):
        assert code == USAGE, done
        assert done.stderr.startswith("Usage: "), done
        return done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def kept(templates: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and their index, for calls that may not change anything."""
    return shutil.copytree(templates[3], tmp_path_factory.mktemp("kept"), dirs_exist_ok=True)


@pytest.mark.parametrize(("arguments", "code"), REFUSED, ids=words)
def test_impossible_values_are_refused_and_change_nothing(
    server: ForkServer, kept: Path, arguments: list[str], code: int
) -> None:
    before = contents(kept)
    one_line(server.run(*arguments, folder=kept), code)
    assert contents(kept) == before


@pytest.mark.parametrize(("arguments", "code"), REFUSED_ANEW, ids=words)
def test_no_index_is_made_by_a_call_that_is_refused(
    server: ForkServer, tmp_path: Path, arguments: list[str], code: int
) -> None:
    draw(tmp_path / "pictures/0.png", 0)
    before = contents(tmp_path)
    one_line(server.run("add", "pictures", *arguments, folder=tmp_path), code)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("arguments", ACCEPTED, ids=" ".join)
def test_large_numbers_are_accepted(server: ForkServer, kept: Path, arguments: list[str]) -> None:
    done = server.run(*arguments, "--json", folder=kept)
    assert done.code == 0, done
    assert json.loads(done.stdout)


@pytest.mark.parametrize("paths", [b"absent\n", b"\xff\xfe\n", b"x" * 5000])
def test_impossible_paths_from_stdin_are_refused_and_change_nothing(
    server: ForkServer, three: Path, paths: bytes
) -> None:
    (three / "paths").write_bytes(paths)
    before = contents(three)
    assert "cannot read" in one_line(server.run("add", "-", folder=three, stdin=str(three / "paths")), 1)
    assert contents(three) == before


@pytest.mark.parametrize("paths", [b"pict\0ures\n", b"pictures/0.png\n\0\n"])
def test_a_nul_in_a_list_of_lines_is_refused_and_changes_nothing(server: ForkServer, three: Path, paths: bytes) -> None:
    (three / "paths").write_bytes(paths)
    before = contents(three)
    assert "give -0" in one_line(server.run("add", "-", folder=three, stdin=str(three / "paths")), USAGE)
    assert contents(three) == before


# samples and files to write

ROWS = b"0,0\n1,0\n2,0\n"
FITTING = {
    "with a byte order mark": b"\xef\xbb\xbfImageID,label\n" + ROWS,
    "with CRLF": b"ImageID,label\r\n" + ROWS.replace(b"\n", b"\r\n"),
    "with old Mac's line ends": (b"ImageID,label\n" + ROWS).replace(b"\n", b"\r"),
    "with quoted newlines": b'ImageID,label,note\n0,0,"two\nlines"\n1,0,x\n2,0,y\n',
    "with empty lines": b"\nImageID,label\n\n" + ROWS + b"\n\n",
    "without a newline at the end": (b"ImageID,label\n" + ROWS).rstrip(b"\n"),
    "in Latin-1": b"ImageID,label,ann\xe9e\n0,0,\xe9t\xe9\n1,0,x\n2,0,y\n",
    "with the label first but for the id": b"ImageID,Label\n" + ROWS,
}
UNFIT = {
    "a missing id": b"ImageID,label\n0,0\n1,0\n",
    "an extra id": b"ImageID,label\n" + ROWS + b"3,0\n",
    "an id twice": b"ImageID,label\n" + ROWS + b"2,0\n",
    "one column": b"ImageID\n0\n1\n2\n",
    "a row that is too long": b"ImageID,label\n0,0\n1,0,0\n2,0\n",
    "no header": ROWS,
    "a header only": b"ImageID,label\n",
    "nothing": b"",
    "only line ends": b"\n\r\n\n",
    "binary": bytes(range(256)) * 20,
    "UTF-16": "ImageID,label\n0,0\n".encode("utf-16"),
    "a quote that is never closed": b'ImageID,label\n0,"0\n1,0\n',
    "a field without end": b"ImageID,label\n" + b"0" * 200_000 + b",0\n",
    "semicolons": b"ImageID;label\n0;0\n1;0\n2;0\n",
}


@pytest.mark.parametrize("sample", FITTING.values(), ids=FITTING)
def test_a_sample_that_a_spreadsheet_may_write_is_copied(server: ForkServer, three: Path, sample: bytes) -> None:
    (three / "sample.csv").write_bytes(sample)
    done = server.run(*CLUSTER, "--like", "sample.csv", "--out", "labels.csv", folder=three)
    assert done.code == 0, done
    labels = (three / "labels.csv").read_bytes().splitlines()
    assert {line[:2] for line in labels} >= {b"0,", b"1,", b"2,"}
    if b"\xe9" in sample:
        assert labels[0] == b"ImageID,label,ann\xe9e"


@pytest.mark.parametrize("sample", UNFIT.values(), ids=UNFIT)
def test_a_sample_that_does_not_fit_leaves_the_labels_that_are_there(
    server: ForkServer, kept: Path, sample: bytes
) -> None:
    (kept / "sample.csv").write_bytes(sample)
    (kept / "labels.csv").write_text("what I had")
    before = contents(kept)
    labels = ("--out", "labels.csv", "--overwrite")
    one_line(server.run(*CLUSTER, "--like", "sample.csv", *labels, folder=kept), 1)
    assert contents(kept) == before


WRITING = [["list"], ["status"], ["failures"], ["verify", "--format", "csv"], SIMILAR, CLUSTER, ["export"]]


@pytest.mark.parametrize("command", WRITING, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "out", ["folder.csv", "absent/x.csv", "pictures/0.png/x.csv", "/dev/full.csv", "x" * 300 + ".csv"]
)
def test_an_answer_that_cannot_be_written_is_one_line_that_names_the_file(
    server: ForkServer, kept: Path, command: list[str], out: str
) -> None:
    (kept / "folder.csv").mkdir(exist_ok=True)
    if out == "/dev/full.csv":
        out = "full.csv"
        if not (kept / out).is_symlink():
            (kept / out).symlink_to("/dev/full")
    before = contents(kept)
    assert out in one_line(server.run(*command, "--out", out, folder=kept), 1)
    assert but_for_what_is_kept(contents(kept), command) == but_for_what_is_kept(before, command)


def but_for_what_is_kept(files: dict[str, bytes], command: list[str]) -> dict[str, bytes]:
    """A clustering is kept before its labels are written, so that what could not be written is not lost."""
    return {name: data for name, data in files.items() if command[0] not in KEEPERS or "catalogue.db" not in name}


def test_a_file_for_what_verify_finds_is_filled_where_there_is_damage(server: ForkServer, three: Path) -> None:
    (three / ".imgindex/catalogue.db").write_bytes(b"garbage" * 1000)
    done = server.run("verify", "--out", "answer.csv", folder=three)
    assert (done.code, done.stdout) == (1, b"")
    assert "catalogue.db" in (three / "answer.csv").read_text()


@pytest.mark.parametrize("command", [words for words in WRITING if words[0] != "verify"], ids=lambda words: words[0])
def test_a_file_that_a_damaged_index_cannot_fill_stays_as_it_was(
    server: ForkServer, three: Path, command: list[str]
) -> None:
    (three / ".imgindex/catalogue.db").write_bytes(b"garbage" * 1000)
    (three / "answer.csv").write_text("what I had")
    before = contents(three)
    one_line(server.run(*command, "--out", "answer.csv", "--overwrite", folder=three), 1)
    assert contents(three) == before


def test_an_export_that_meets_a_damaged_vector_leaves_the_file_that_is_there(server: ForkServer, three: Path) -> None:
    segment = three / ".imgindex/segments/000001.vec"
    segment.write_bytes(segment.read_bytes()[:-1] + b"\0")
    for ending in ("npz", "npy", "parquet", "csv"):
        (three / f"vectors.{ending}").write_text("what I had")
        before = contents(three)
        out = ("--out", f"vectors.{ending}", "--overwrite")
        assert "damaged" in one_line(server.run("export", *out, folder=three), 1)
        assert contents(three) == before


@pytest.mark.parametrize("command", WRITING, ids=lambda words: words[0])
def test_a_folder_that_may_not_be_written_into_is_one_line(server: ForkServer, three: Path, command: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(three, name, dirs_exist_ok=True))
        (folder / "closed").mkdir()
        (folder / "closed/answer.csv").write_text("what I had")
        folder.chmod(0o755)
        (folder / "closed").chmod(0o555)
        before = contents(folder)
        out = ("--out", "closed/answer.csv", "--overwrite")
        done = server.run(*command, *out, folder=folder, unprivileged=True)
        assert one_line(done, 1) == "imgindex: error: Permission denied: closed/answer.csv"
        assert but_for_what_is_kept(contents(folder), command) == but_for_what_is_kept(before, command)
